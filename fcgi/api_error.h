/* The error chapter of the API (RFC 9457): every code. The words are in api_error.c. */
#ifndef FCGI_API_ERROR_H
#define FCGI_API_ERROR_H

#include "common/error.h"

#include <stddef.h>

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
extern const struct error error_provider_refused_token;

/* limits and the last resort */
extern const struct error error_rate_limited;
extern const struct error error_internal;

/* The error with this code, or NULL. */
const struct error *error_find(const char *code);

/* The statuses that the program answers with. */
#define API_STATUS_COUNT 15

struct api_status {
	int status;
	const char *reason; /* its reason phrase (RFC 9110) */
};
extern const struct api_status api_statuses[API_STATUS_COUNT];

/* Where `status` stands in api_statuses; one that does not counts as 500. */
size_t api_status_index(int status);

#endif
