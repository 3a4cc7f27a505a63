/*
 * OAuth 2.0 and OpenID Connect messages: strings in, strings out, no I/O (RFC 6749, 6750, 7009, 7636, 9207; OpenID
 * Connect Core 1.0).
 */
#ifndef COMMON_OAUTH2_H
#define COMMON_OAUTH2_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct arena;
struct json;
struct words;

enum oauth2_client_auth { OAUTH2_CLIENT_POST, OAUTH2_CLIENT_BASIC };

struct oauth2_client {
	const char *id;
	const char *secret;
	enum oauth2_client_auth auth;
};

/* ---- authorization request (RFC 6749 4.1.1, RFC 7636 4.3) ---- */

struct oauth2_parameter {
	const char *name;
	const char *value;
};

struct oauth2_authorization {
	const char *endpoint; /* may already hold a query */
	const char *client_id;
	const char *redirect_uri;
	const struct words *scopes;
	const char *state;
	const char *nonce;                    /* NULL: none */
	const char *login_hint;               /* the account to offer (OpenID Connect Core 3.1.2.1); NULL: none */
	const char *code_challenge;           /* S256 */
	const struct oauth2_parameter *extra; /* the provider file's own */
	size_t extra_count;
};

/* The URL to send the browser to; NULL when it would pass 16 KiB (as the requests below). */
char *oauth2_authorization_url(struct arena *arena, const struct oauth2_authorization *request);

/* True for a parameter that oauth2_authorization_url sets by itself. */
bool oauth2_parameter_is_reserved(const char *name);

/* ---- token requests: the form body; *authorization is the Basic header's value, or NULL ---- */

char *oauth2_code_request(struct arena *arena, const struct oauth2_client *client, const char *code,
			  const char *redirect_uri, const char *code_verifier, const char **authorization);
char *oauth2_refresh_request(struct arena *arena, const struct oauth2_client *client, const char *refresh_token,
			     const char **authorization);
char *oauth2_revoke_request(struct arena *arena, const struct oauth2_client *client, const char *token,
			    const char **authorization);

/* ---- token answers (RFC 6749 5.1, 5.2) ---- */

struct oauth2_tokens {
	const char *access_token;  /* visible ASCII, at most 4,096 bytes */
	const char *refresh_token; /* NULL when absent, null or empty; at most 2,048 bytes */
	const char *id_token;      /* NULL when absent */
	const char *scope;         /* as granted; NULL when absent: then it is what was asked for (5.1) */
	int64_t expires_in;        /* seconds, clamped to 1 .. 86,400; 300 where absent or not a number */
};

/* Why a token endpoint (or another call) did not give what was asked. Classes, not words: facts about one call. */
enum oauth2_failure {
	OAUTH2_OK,
	OAUTH2_INVALID_GRANT, /* HTTP 400 and JSON `error` exactly `invalid_grant`, nothing else */
	OAUTH2_POLICY,   /* admin_policy_enforced, invalid_scope, access_denied, org_internal, ... : tokens are kept */
	OAUTH2_CLIENT,   /* our client id, secret, redirect URI or request is at fault: an operator must act */
	OAUTH2_TRANSIENT /* 408, 429, 5xx, not JSON, no usable answer: try again later */
};

/*
 * Judge an answer of the token endpoint. OAUTH2_OK fills *tokens. Otherwise *code is the provider's `error` when it is
 * one of the known codes (a static string, fit for a log), else "other" or "none".
 */
enum oauth2_failure oauth2_token_answer(struct arena *arena, long status, const char *body, size_t len,
					struct oauth2_tokens *tokens, const char **code);

/*
 * The same for the answer to a refresh, where a provider that rotates has forgotten the refresh token that it was sent:
 * the new one must not be lost over another member. An unfit id_token or scope counts as absent; where the access token
 * or its type is unfit, it is OAUTH2_TRANSIENT, and of *tokens only what is fit of refresh token and id_token stands
 * there.
 */
enum oauth2_failure oauth2_refresh_answer(struct arena *arena, long status, const char *body, size_t len,
					  struct oauth2_tokens *tokens, const char **code);

/* Whatever tokens stand in an answer that was not OAUTH2_OK, so that they can be revoked: those that are no text to be
 * sent are left out. */
void oauth2_unfit_tokens(struct arena *arena, const char *body, size_t len, struct oauth2_tokens *tokens);

/* The revocation answer says that the token is dead: 200, or 400 with `invalid_token` (RFC 7009 2.2; Google). */
bool oauth2_is_revoked(struct arena *arena, long status, const char *body, size_t len);

/* ---- id_token claims (OpenID Connect Core 3.1.3.7) ---- */

struct oauth2_identity_check {
	const struct words *issuers; /* any of them */
	const char *client_id;
	const char *nonce;        /* NULL: not asked for */
	const char *access_token; /* for at_hash (3.1.3.8), checked where the claim is there; NULL: skip */
	const char *algorithm;    /* the token's `alg`, names the hash of at_hash; NULL stands for SHA-256 */
	int64_t now;              /* wall clock, seconds; 300 s of skew are allowed, a life over 86,400 s is refused */
};

/* Are the claims meant for this client, and for no other? */
bool oauth2_is_audience(const struct json *claims, const char *client_id);

/* NULL when every check holds, else the name of the first claim that does not ("iss", "aud", "nonce", ...). */
const char *oauth2_check_identity(struct arena *arena, const struct json *claims,
				  const struct oauth2_identity_check *check);

#endif
