/* An answer: status, headers, body; and the JSON forms that several routes share. */
#ifndef FCGI_RESPONSE_H
#define FCGI_RESPONSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct arena;
struct error;
struct integration;
struct json_write;
struct request;

#define RESPONSE_BODY_MAX (256 * 1024)
#define RESPONSE_HEADERS_MAX 12

struct response {
	struct arena *arena;
	int status;
	const char *content_type;
	const char *body;
	size_t body_len;
	size_t header_count;
	struct {
		const char *name;
		const char *value;
	} headers[RESPONSE_HEADERS_MAX];
};

/* Start the answer to a request: 200, empty. */
void response_init(struct response *response, struct arena *arena);

/* Add a header. Names are literals; a value with a byte below 0x20 or 0x7f is refused (error_internal). */
const struct error *response_header(struct response *response, const char *name, const char *value);

/* A 200 with the JSON document; error_internal when writing it failed. */
const struct error *response_json(struct response *response, struct json_write *json);

/* A record (fcgi/API.md) as a member `key` of the open object, or as an element of the open array (key NULL). */
void response_record(struct json_write *json, const char *key, const struct integration *integration);

/* Turn the answer into the problem body of `error` (RFC 9457). Never fails: without memory the body is empty. */
void response_problem(struct response *response, const struct request *request, const struct error *error);

#endif
