/* Who may call (fcgi/API.md, Who may call): credentials -> session -> member of the organization; the same-origin rule.
 */
#ifndef FCGI_ACCESS_H
#define FCGI_ACCESS_H

#include <stdbool.h>

struct error;
struct provider;
struct request;

/*
 * Who calls, by the session cookie or a bearer token, and that this user has access to `organization`: fills
 * request->session, ->credential, connection_key.user and .organization; where the route `lists` the user's records
 * perhaps
 * ->prefetched. error_unauthenticated, error_ambiguous_credentials, error_organization_forbidden or
 * error_store_unavailable.
 */
const struct error *access_member(struct request *request, const char *organization, bool lists);

/* The same for a route that names no organization; request->session then holds them all. */
const struct error *access_user(struct request *request);

/*
 * A program of the platform: a caller's key as bearer, and `organization` in its list. Fills request->caller. Before
 * anything about a user is read: error_unauthenticated, error_caller_forbidden or error_store_unavailable.
 */
const struct error *access_caller(struct request *request, const char *organization);

/* Refuse what a program asked for, with an entry in the audit if it is not one of too many: error_caller_forbidden. */
const struct error *access_forbid(struct request *request, const char *outcome);

/* The caller's MCPs include `mcp`; one of those that need `provider`. */
bool access_caller_has(const struct request *request, const char *mcp);
bool access_caller_serves(const struct request *request, const struct provider *provider);

/*
 * An AI teammate in the gateway: a session for that use as bearer (a cookie does not count here) with access to
 * `organization`. Fills what access_member fills.
 */
const struct error *access_gateway(struct request *request, const char *organization);

/* With the cookie, a request that changes something must come from our own pages: error_cross_origin. */
const struct error *access_same_origin(const struct request *request);

/* Where a program sends an Origin, a browser may be behind it: it must be our own (error_cross_origin). */
const struct error *access_program_origin(const struct request *request);

/* The request came to PUBLIC_URL's host: error_misdirected. */
const struct error *access_host(const struct request *request);

#endif
