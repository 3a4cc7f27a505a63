/* A request as routes see it: plain data in an arena, checked at the edge (no NUL, valid UTF-8, bounded). */
#ifndef FCGI_REQUEST_H
#define FCGI_REQUEST_H

#include "fcgi/store_caller.h"
#include "fcgi/store_session.h"
#include "fcgi/task.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct error;
struct json;

enum method { METHOD_GET, METHOD_HEAD, METHOD_POST, METHOD_DELETE, METHOD_OTHER };

/* Which nginx server or location a request came through; only nginx says so. */
enum server { SERVER_PUBLIC, SERVER_INTERNAL, SERVER_GATEWAY };

/* "GET" and so on; "other" for METHOD_OTHER. */
const char *request_method_name(enum method method);
enum method request_method(const char *name);

#define REQUEST_BODY_MAX (16 * 1024)

struct request {
	struct task
	    task; /* its connection key: user from the session (from the path for a caller), the rest from the path */

	/* from nginx */
	enum method method;
	const char *path;          /* raw, up to the '?' */
	const char *query;         /* raw, "" when there is none */
	const char *host;          /* the Host header */
	const char *target_host;   /* the host that nginx chose its server by: of the request line, else of Host */
	const char *authorization; /* headers: NULL when absent */
	const char *cookie;
	const char *origin;
	const char *sec_fetch_site;
	const char *content_type;
	const char *gateway_code; /* SERVER_GATEWAY: a refusal to be answered, or how the upstream failed */
	enum server server;
	const char *body;
	size_t body_len;
	const struct error *broken; /* what the edge found wrong with it, answered where the order of refusals says */

	/* from the router and access.c: the caller's identity, and from nowhere else */
	struct session session;
	struct prefetched_records prefetched; /* of a route that lists them */
	struct caller caller;                 /* routes for programs */
	const char *mcp;                      /* of the path, in the gateway */
	const char *path_suffix;              /* of the path, in the proxy: behind the service, with its slash */
	const char *credential;               /* "cookie" or "bearer" */
	const struct json *json;              /* the parsed body, an object; NULL without one */

	/* for the answer */
	const struct error *error; /* what went wrong, for the log; NULL: nothing */
	bool logged;               /* the log and the metrics have this request already */
	const char *detail;        /* overrides the error's sentence; NULL: does not */
	int64_t retry_after;       /* seconds; 0: the default of the error, if any */
	const char *allow;         /* Allow of a 405 */
	struct {
		const char *name;
		const char *value;
	} extension[2]; /* further members of the problem body */
	struct {
		const char *name;
		const char *oauth_user_id;
		const char *oauth_email; /* NULL: not known */
	} account[2]; /* the same, each an object that names an account; an object is left out where its name is NULL */
};

#endif
