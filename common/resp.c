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

static char *
put_word(char *at, const char *word, size_t len)
{
	at = put_number(at, '$', len);
	memcpy(at, word, len);
	at += len;
	*at++ = '\r';
	*at++ = '\n';
	return at;
}

void
resp_tail_prepare(struct resp_tail *tail, int argc, const char *const *argv)
{
	size_t most = 1;
	char *at;

	for (int i = 0; i < argc; i++)
		most += NUMBER_MAX + strlen(argv[i]) + 2;
	at = tail->bytes = malloc(most);
	if (at == NULL)
		abort();
	for (int i = 0; i < argc; i++)
		at = put_word(at, argv[i], strlen(argv[i]));
	tail->argc = argc;
	tail->len = (size_t)(at - tail->bytes);
}

bool
resp_add(struct resp *resp, int argc, const char *const *argv, const size_t *lengths, const struct resp_tail *tail)
{
	size_t most = NUMBER_MAX + (tail != NULL ? tail->len : 0);
	char *at;

	for (int i = 0; i < argc; i++)
		most += NUMBER_MAX + lengths[i] + 2;
	if (!make_room(resp, most))
		return false;
	at = put_number(resp->bytes + resp->len, '*', (size_t)argc + (size_t)(tail != NULL ? tail->argc : 0));
	for (int i = 0; i < argc; i++)
		at = put_word(at, argv[i], lengths[i]);
	if (tail != NULL)
		at = mempcpy(at, tail->bytes, tail->len);
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
