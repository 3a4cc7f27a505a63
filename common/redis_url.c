#include "common/redis_url.h"

#include "common/crypto.h"
#include "common/redis.h"
#include "common/text.h"

#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

static const char no_memory[] = "cannot be read: the program has too little memory";

static char *
part(const char *from, const char *to)
{
	return strndup(from, (size_t)(to - from));
}

/* Undo percent-encoding in place; false where an escape is broken or is NUL. */
static bool
decode(char *text)
{
	char *out = text;

	for (const char *in = text; *in != '\0'; in++) {
		if (*in == '%') {
			char digits[3] = {0};

			if (!isxdigit((unsigned char)in[1]) || !isxdigit((unsigned char)in[2]))
				return false;
			memcpy(digits, in + 1, 2);
			*out = (char)strtol(digits, NULL, 16);
			if (*out == '\0')
				return false;
			out++;
			in += 2;
		} else {
			*out++ = *in;
		}
	}
	*out = '\0';
	return true;
}

/* What is before the @ in user:pass@host/db or user:pass@/path; *rest is behind it afterwards. */
static const char *
take_credentials(struct redis_target *target, const char **rest)
{
	const char *from = *rest;
	const char *at = memrchr(from, '@', strcspn(from, "/"));
	const char *colon;

	if (at == NULL)
		return NULL;
	*rest = at + 1;
	colon = memchr(from, ':', (size_t)(at - from));
	if (colon == NULL)
		return "has a user without a password; write user:password@ before the host or the path";
	if (colon > from)
		target->user = part(from, colon);
	target->password = part(colon + 1, at);
	if (target->password == NULL || (colon > from && target->user == NULL))
		return no_memory;
	if ((target->user != NULL && !decode(target->user)) || !decode(target->password))
		return "has a broken percent-escape in its credentials";
	return NULL;
}

/* Without memory for it, another database would be meant. */
static const char *
take_db(struct redis_target *target, const char *db)
{
	target->db = strdup(db);
	return target->db != NULL ? NULL : no_memory;
}

static const char *
parse_tcp(struct redis_target *target, const char *rest)
{
	const char *slash = strchr(rest, '/');
	const char *end = slash != NULL ? slash : rest + strlen(rest);
	const char *colon;
	uint64_t port = 6379;

	if (*rest == '[') { /* an IPv6 address */
		const char *close = memchr(rest, ']', (size_t)(end - rest));

		if (close == NULL)
			return "has an IPv6 address without its closing bracket";
		if (close + 1 < end && close[1] != ':')
			return "has text behind its IPv6 address; write redis://[address]:port/db";
		target->host = part(rest + 1, close);
		colon = close + 1 < end ? close + 1 : NULL;
	} else {
		colon = memchr(rest, ':', (size_t)(end - rest));
		target->host = part(rest, colon != NULL ? colon : end);
	}
	if (colon != NULL) {
		char *digits = part(colon + 1, end);
		bool good = digits != NULL && text_to_number(digits, 65535, &port) && port > 0;

		free(digits);
		if (!good)
			return "has a port that is not a number from 1 to 65535";
	}
	target->port = (unsigned)port;
	if (target->host == NULL)
		return no_memory;
	if (target->host[0] == '\0')
		return "names no host";
	return slash != NULL && slash[1] != '\0' ? take_db(target, slash + 1) : NULL;
}

static const char *
parse_unix(struct redis_target *target, const char *rest)
{
	const char *query = strchr(rest, '?');

	target->path = part(rest, query != NULL ? query : rest + strlen(rest));
	if (target->path == NULL)
		return no_memory;
	if (target->path[0] != '/' || strlen(target->path) >= sizeof((struct sockaddr_un *)0)->sun_path)
		return "needs an absolute path of at most 107 bytes; write unix://[user:password@]/path/to/redis.sock";
	if (query != NULL && strncmp(query, "?db=", 4) != 0)
		return "may carry ?db=NUMBER and nothing else";
	return query != NULL ? take_db(target, query + 4) : NULL;
}

void
redis_target_free(struct redis_target *target)
{
	if (target->password != NULL)
		crypto_wipe(target->password, strlen(target->password));
	free(target->path);
	free(target->host);
	free(target->user);
	free(target->password);
	free(target->db);
	memset(target, 0, sizeof *target);
}

const char *
redis_target_parse(struct redis_target *target, const char *url)
{
	bool is_tcp = strncmp(url, "redis://", 8) == 0;
	const char *mistake;
	uint64_t db;

	memset(target, 0, sizeof *target);
	if (is_tcp || strncmp(url, "unix://", 7) == 0) {
		const char *rest = url + (is_tcp ? 8 : 7);

		mistake = take_credentials(target, &rest);
		if (mistake == NULL)
			mistake = is_tcp ? parse_tcp(target, rest) : parse_unix(target, rest);
	} else if (strncmp(url, "redis+sentinel://", 17) == 0 || strncmp(url, "redis+cluster://", 16) == 0) {
		mistake = "Sentinel and Cluster are not built yet; give one server as redis:// or unix://";
	} else {
		mistake = "is neither redis://[user:pass@]host:port/db nor unix://[user:pass@]/path";
	}
	if (mistake == NULL && target->db != NULL && !text_to_number(target->db, 1000000, &db))
		mistake = "has a database that is not a number";
	return mistake;
}

bool
redis_url_check(const char *url, const char **mistake)
{
	struct redis_target target;

	*mistake = redis_target_parse(&target, url);
	redis_target_free(&target);
	return *mistake == NULL;
}

unsigned
redis_url_port(const char *url)
{
	struct redis_target target;
	unsigned port = redis_target_parse(&target, url) == NULL ? target.port : 0;

	redis_target_free(&target);
	return port;
}
