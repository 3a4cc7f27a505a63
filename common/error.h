/*
 * Errors: every function that can fail returns `const struct error *`; NULL is success.
 *
 * An error is one of the static constants below, so it is compared by address, never freed and never formatted. Its
 * parts are what the outside sees (RFC 9457): the HTTP status, the stable code, the title of its kind and one sentence
 * a person can act on. Technical detail is logged once, where it is found; it never travels in here.
 */
#ifndef COMMON_ERROR_H
#define COMMON_ERROR_H

struct error {
	int status;         /* HTTP status */
	const char *code;   /* stable, snake_case; the tail of the problem's `type` */
	const char *title;  /* fixed for each code */
	const char *detail; /* one sentence that says what to do */
};

/* who may call */
extern const struct error error_unauthenticated;
extern const struct error error_ambiguous_credentials;
extern const struct error error_organization_forbidden;
extern const struct error error_caller_forbidden;
extern const struct error error_cross_origin;
extern const struct error error_misdirected;

/* what is asked for */
extern const struct error error_route_not_found;
extern const struct error error_service_not_found;
extern const struct error error_integration_not_found;
extern const struct error error_method_not_allowed;
extern const struct error error_body_invalid;
extern const struct error error_body_too_large;
extern const struct error error_content_type_unsupported;
extern const struct error error_request_invalid;

/* the consent flow */
extern const struct error error_state_invalid;
extern const struct error error_issuer_mismatch;
extern const struct error error_consent_declined;
extern const struct error error_authorization_failed;
extern const struct error error_code_rejected;
extern const struct error error_identity_invalid;
extern const struct error error_scopes_missing;
extern const struct error error_offline_access_missing;
extern const struct error error_account_mismatch;
extern const struct error error_reconnect_required;

/* other people's programs */
extern const struct error error_provider_misconfigured;
extern const struct error error_provider_unreachable;
extern const struct error error_provider_refused_token;
extern const struct error error_store_unavailable;

/* limits and the last resort */
extern const struct error error_rate_limited;
extern const struct error error_overloaded;
extern const struct error error_internal;

/* The error with this code, or NULL. */
const struct error *error_find(const char *code);

#endif
