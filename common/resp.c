#include "common/resp.h"

#include "common/text.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_SIZE ((size_t)16 * 1024)
#define KEEP_MAX ((size_t)256 * 1024) /* a larger buffer is given back when it is empty */
#define NUMBER_MAX 23                 /* a sign, its digits, and the line end */

static bool
make_room(struct resp *resp, size_t more)
{
	size_t size = resp->size > 0 ? resp->size : FIRST_SIZE;
	char *bytes;

	if (more <= resp->size - resp->len)
		return true;
	while (size < resp->len + more)
		size *= 2;
	bytes = realloc(resp->bytes, size);
	if (bytes == NULL)
		return false;
	resp->bytes = bytes;
	resp->size = size;
	return true;
}

static char *
put_number(char *at, char sign, size_t number)
{
	*at++ = sign;
	at = text_number(at, (int64_t)number);
	*at++ = '\r';
	*at++ = '\n';
	return at;
}

bool
resp_add(struct resp *resp, int argc, const char *const *argv, const size_t *lengths)
{
	size_t most = NUMBER_MAX;
	char *at;

	for (int i = 0; i < argc; i++)
		most += NUMBER_MAX + lengths[i] + 2;
	if (!make_room(resp, most))
		return false;
	at = put_number(resp->bytes + resp->len, '*', (size_t)argc);
	for (int i = 0; i < argc; i++) {
		at = put_number(at, '$', lengths[i]);
		memcpy(at, argv[i], lengths[i]);
		at += lengths[i];
		*at++ = '\r';
		*at++ = '\n';
	}
	resp->len = (size_t)(at - resp->bytes);
	return true;
}

size_t
resp_left(const struct resp *resp)
{
	return resp->len - resp->sent;
}

void
resp_sent(struct resp *resp, size_t len)
{
	resp->sent += len;
	if (resp->sent < resp->len)
		return;
	if (resp->size > KEEP_MAX)
		resp_clear(resp);
	resp->len = resp->sent = 0;
}

void
resp_clear(struct resp *resp)
{
	free(resp->bytes);
	*resp = (struct resp){0};
}
