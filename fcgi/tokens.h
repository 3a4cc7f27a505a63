/*
 * The life of a token: exchange, refresh, validate, revoke; one tokens_*.c each. Used by several routes.
 *
 * What a provider says about a connection is a result, not an error: errors returned here are only those of our own
 * store and limits. Every function works for request->connection_key, within request->deadline_ms, and parks the fiber.
 */
#ifndef FCGI_TOKENS_H
#define FCGI_TOKENS_H

#include "common/oauth2.h"
#include "fcgi/store_integration.h"
#include "fcgi/store_shared_grant.h"

#include <stdbool.h>
#include <stdint.h>

struct app;
struct error;
struct oauth_state;
struct request;

enum token_result {
	TOKEN_GOOD,
	TOKEN_GONE,        /* nothing is stored (any more) */
	TOKEN_REMOVED,     /* the member was removed from the organization: nothing is asked for them */
	TOKEN_DEAD,        /* the provider said invalid_grant */
	TOKEN_UNREADABLE,  /* stored tokens do not open */
	TOKEN_FOREIGN,     /* stored tokens belong to another issuer or client id */
	TOKEN_POLICY,      /* the provider's or its customer's policy forbids it; tokens are kept */
	TOKEN_CLIENT,      /* the provider refuses us as a client: an operator must act */
	TOKEN_UNREACHABLE, /* no usable answer */
	TOKEN_IDENTITY,    /* the provider named another account than the stored one */
	TOKEN_CROWDED      /* too many wait for the provider already: it was not asked */
};

/* What a result means for a record (status, status_reason, whether the provider has answered) and for a caller. */
struct token_result_info {
	const char *status;
	const char *reason;
	bool answered;
	const struct error *error;
};
const struct token_result_info *tokens_result_info(enum token_result result);

/* ---- tokens_exchange.c ---- */

/* What the provider gave for a code. */
struct exchange_result {
	struct oauth2_tokens tokens; /* neither access_token nor refresh_token: nothing was given */
	const char *account;
	const char *email;   /* NULL: not known */
	struct words scopes; /* granted, after aliases */
	int64_t issued_at;
	int64_t sent_us; /* clock_monotonic_us when the code was sent */
};

/*
 * Exchange `code` for tokens and find out whose they are: id_token, or userinfo where the provider has no keys. The
 * provider's keys are at hand before the code is sent. Where tokens came but were not acceptable, exchange->tokens
 * tells, so that the caller can discard them.
 */
const struct error *tokens_exchange(struct app *app, struct request *request, const struct oauth_state *state,
				    const char *code, struct exchange_result *exchange);

#define TOKENS_ACCOUNT_MAX 255 /* OpenID Connect Core 2: sub */

/* An account id as a provider may give it; NULL is none. */
bool tokens_is_account(const char *account);

/*
 * Revoke the tokens of an exchange that is refused, unless a stored connection may share their grant. Where their
 * account is not known, they are left, and the log says so.
 */
void tokens_discard(struct app *app, struct request *request, const struct exchange_result *exchange);

/* ---- tokens_refresh_once.c ---- */

/* For a provider's answer of usual size and all that is done with it: a request that has asked for tokens must be
 * able to keep them. */
#define TOKENS_ANSWER_MEMORY ((size_t)64 * 1024)
#define TOKENS_REFUSED_COOLDOWN_S 60 /* a program, or an upstream, that keeps refusing costs one refresh a minute */

/* Has a refusal forced a refresh in the last `cooldown_seconds`? A time to come is none: some clock was wrong. */
bool tokens_in_cooldown(const struct credential *credential, int64_t cooldown_seconds);

/* Has a validation found that the provider takes the stored token for another account's? Then no caller may have it. */
bool tokens_are_of_another(const struct integration *record);

struct token_options {
	int64_t minimum_seconds; /* refresh when less is left, but never before half of the token's life is over */
	/* hex SHA-256 of an access token that the provider refused: refresh if it is still this one */
	const char *refused;
	int64_t refused_cooldown_seconds; /* but not when a refusal has forced a refresh in the last so many seconds */
	bool force;                       /* refresh whatever is left */
	bool ask_again;                   /* ask the provider even where it has said no before */
	bool leave_record;                /* where the provider says no, say so to the caller only */
	const struct words *scopes; /* the token goes to a program, with these granted; NULL: it stays in the service */
};

/*
 * Read the connection and refresh its access token where that is due: once over all workers and hosts
 * (fcgi/README.md, Refresh). On TOKEN_GOOD *record and *credential are current. On any other result but TOKEN_GONE they
 * are what is stored; an access token in it may still be valid. TOKEN_DEAD has been noted in the record, unless it is
 * to be left.
 */
const struct error *tokens_fresh(struct app *app, struct request *request, const struct token_options *options,
				 struct integration *record, struct credential *credential, enum token_result *result);

/* ---- tokens_vend.c ---- */

struct vended_token {
	struct integration record;
	struct credential credential;
	const char *warning; /* why it could not be refreshed when that was due; NULL: no such thing */
};

/*
 * A fresh access token for a program, if every one of `scopes` (after aliases) is granted. Errors: nothing stored, dead
 * or unreadable, a scope missing, the member removed, or the provider failing while no stored token is left.
 */
const struct error *tokens_vend(struct app *app, struct request *request, const struct token_options *options,
				const struct words *scopes, struct vended_token *out);

/* ---- tokens_validate.c ---- */

/*
 * Ask the provider about the connection, refreshing first where due, and store the new status. Concurrent calls for one
 * connection, on all workers and hosts, share one. *found is false when nothing is stored.
 */
const struct error *tokens_validate(struct app *app, struct request *request, struct integration *record, bool *found);

/* The account that userinfo names for `access_token`; *email may be NULL. TOKEN_GOOD, or why not: TOKEN_DEAD means
 * that the provider refused the token. */
enum token_result tokens_userinfo(struct app *app, struct request *request, const char *access_token,
				  const char **account, const char **email);

/* ---- tokens_revoke.c ---- */

#define TOKENS_REVOKE_MS 3000

/* Revoke `token` of `account` at the provider, within TOKENS_REVOKE_MS, unless a stored connection shares its grant. */
void tokens_revoke(struct app *app, struct request *request, const char *account, const char *token);

/*
 * A connection was deleted or replaced: forget that it used its grant, and revoke the grant where no other connection
 * uses it. `use` tells which do; *revoked whether it is dead now.
 */
const struct error *tokens_grant_release(struct app *app, struct request *request, const struct integration *record,
					 const struct credential *credential, enum grant_use *use, bool *revoked);

/*
 * What became of a grant, in one word for answers and the audit: "revoked"; "kept_shared" where another connection of
 * the same user needs it; else "not_revoked", so that it says nothing about other people.
 */
const char *tokens_revocation(bool revoked, enum grant_use use);

/* What became of a connection that a caller wanted to disconnect. */
struct disconnect_result {
	bool found;    /* it was stored until now */
	bool finished; /* or there was one whose grant an earlier try had left as it was */
	struct credential credential;
	enum grant_use use;
	bool revoked;
	const struct error *error; /* the store failed when it was deleted already; the next attempt finishes it */
};

/*
 * Delete the connection, then deal with its grant and with those that an interrupted try has left. Errors: nothing is
 * deleted. request->provider is NULL for a service that is no longer enabled: nothing is revoked.
 */
const struct error *tokens_disconnect(struct app *app, struct request *request, struct disconnect_result *out);

/*
 * A connection was stored with `exchange`: make sure that a request that was just revoking the same grant did not kill
 * it. Where that may be, the provider is asked by a refresh; *record is what is stored after that. A dead one is an
 * error; where that is not known, it is stored as `unknown`.
 */
const struct error *tokens_recheck(struct app *app, struct request *request, const struct exchange_result *exchange,
				   struct integration *record);

#endif
