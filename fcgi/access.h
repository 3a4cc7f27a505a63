/* Who may call (README, Sessions): credentials -> session -> member of the organization; the same-origin rule. */
#ifndef FCGI_ACCESS_H
#define FCGI_ACCESS_H

struct app;
struct error;
struct request;

/*
 * Who calls, by the session cookie or a bearer token, and that this user has access to `organization`: fills
 * request->session, ->credential, principal.user and .organization. error_unauthenticated, error_ambiguous_credentials,
 * error_organization_forbidden or error_store_unavailable.
 */
const struct error *access_member(struct app *app, struct request *request, const char *organization);

/* The same for a route that names no organization; request->session then holds them all. */
const struct error *access_user(struct app *app, struct request *request);

/* With the cookie, a request that changes something must come from our own pages: error_cross_origin. */
const struct error *access_same_origin(struct app *app, const struct request *request);

/* The request came to PUBLIC_URL's host: error_misdirected. */
const struct error *access_host(struct app *app, const struct request *request);

#endif
