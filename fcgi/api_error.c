/*
 * The error chapter of the API: one constant for each code, in the order of api_error.h. `detail` speaks to the member
 * in front of the page or to the author of a client, and says what to do next.
 */
#include "fcgi/api_error.h"

#include <string.h>

const struct error error_unauthenticated = {
    401,
    "unauthenticated",
    "Not signed in",
    "Sign in and try again: there is no valid session with this request.",
};

const struct error error_ambiguous_credentials = {
    400,
    "ambiguous_credentials",
    "More than one credential",
    "Send either the session cookie or a bearer token, once, and not both.",
};

const struct error error_organization_forbidden = {
    403,
    "organization_forbidden",
    "No access to this organization",
    "Choose an organization that you are a member of, or ask its administrator to add you.",
};

const struct error error_caller_forbidden = {
    403,
    "caller_forbidden",
    "Caller not allowed",
    "Ask an operator to allow this caller for the organization and the MCPs that it needs.",
};

const struct error error_cross_origin = {
    403,
    "cross_origin",
    "Request from another site",
    "Open the Integrations page itself and start the action there.",
};

const struct error error_misdirected = {
    421,
    "misdirected",
    "Wrong host name",
    "Use the public address of this service: it does not answer under this host name.",
};

const struct error error_route_not_found = {
    404,
    "route_not_found",
    "No such path",
    "Check the path: the API has no such route.",
};

const struct error error_service_not_found = {
    404,
    "service_not_found",
    "No such service",
    "Choose one of the services listed under /api/services: this one is not enabled here.",
};

const struct error error_integration_not_found = {
    404,
    "integration_not_found",
    "Not connected",
    "Connect the service on the Integrations page (/integrations) first: you have no such connection here.",
};

const struct error error_method_not_allowed = {
    405,
    "method_not_allowed",
    "Method not allowed",
    "Use one of the methods that the Allow header names for this path.",
};

const struct error error_body_invalid = {
    400,
    "body_invalid",
    "Invalid request body",
    "Send one JSON object with the members that this route needs, each once and of the right type.",
};

const struct error error_body_too_large = {
    413,
    "body_too_large",
    "Request body too large",
    "Send a body of at most 16 KiB.",
};

const struct error error_content_type_unsupported = {
    415,
    "content_type_unsupported",
    "Unsupported content type",
    "Send the body as JSON with Content-Type: application/json.",
};

const struct error error_request_invalid = {
    400,
    "request_invalid",
    "Malformed request",
    "Check the path, the query and the headers: this request cannot be understood.",
};

const struct error error_state_invalid = {
    400,
    "state_invalid",
    "This attempt to connect is no longer valid",
    "Go back to the Integrations page and connect again: this attempt has expired, was used already, or was not yours.",
};

const struct error error_issuer_mismatch = {
    400,
    "issuer_mismatch",
    "Answer from another provider",
    "Go back to the Integrations page and connect again: the answer did not come from the provider that was asked.",
};

const struct error error_consent_declined = {
    400,
    "consent_declined",
    "Consent was declined",
    "Connect again and allow access on the provider's page if you want to use this integration.",
};

const struct error error_authorization_failed = {
    400,
    "authorization_failed",
    "The provider did not grant access",
    "Connect again; if it fails again, ask your administrator whether this application is allowed at the provider.",
};

const struct error error_code_rejected = {
    400,
    "code_rejected",
    "The provider refused to finish the connection",
    "Go back to the Integrations page and connect again: the provider no longer accepts this attempt.",
};

const struct error error_identity_invalid = {
    502,
    "identity_invalid",
    "The provider's proof of identity is not valid",
    "Connect again; if it fails again, tell an operator, because the account could not be verified.",
};

const struct error error_scopes_missing = {
    422,
    "scopes_missing",
    "Permissions are missing",
    "Connect again on the Integrations page (/integrations) and leave the permissions that you need ticked.",
};

const struct error error_offline_access_missing = {
    409,
    "offline_access_missing",
    "No lasting access was granted",
    "Remove this application's access in your account at the provider, then connect again.",
};

const struct error error_account_mismatch = {
    409,
    "account_mismatch",
    "Another account is connected",
    "Choose the account that is connected already, or replace it by starting again with Replace.",
};

const struct error error_reconnect_required = {
    409,
    "reconnect_required",
    "Reconnect required",
    "Reconnect the service on the Integrations page (/integrations): its access no longer works.",
};

const struct error error_provider_misconfigured = {
    502,
    "provider_misconfigured",
    "The provider refused this application",
    "Tell an operator to check the client id, client secret and redirect URI; your connection is kept.",
};

const struct error error_provider_unreachable = {
    502,
    "provider_unreachable",
    "The provider does not answer",
    "Try again in a few minutes: the provider gave no usable answer in time.",
};

const struct error error_provider_refused_token = {
    502,
    "provider_refused_token",
    "The provider refused the access token",
    "Repeat the request: the next one uses a new access token.",
};

const struct error error_store_unavailable = {
    503,
    "store_unavailable",
    "Storage does not answer",
    "Try again in a moment: the storage of this service cannot be reached, and nothing is lost.",
};

const struct error error_rate_limited = {
    429,
    "rate_limited",
    "Too many requests",
    "Wait as long as the Retry-After header says, then try again.",
};

const struct error error_overloaded = {
    503,
    "overloaded",
    "Too busy",
    "Wait as long as the Retry-After header says, then try again: too many requests are in progress.",
};

const struct error error_internal = {
    500,
    "internal_error",
    "Internal error",
    "Try again; if it fails again, report it to an operator with the request id.",
};

static const struct error *const all[] = {
    &error_unauthenticated,
    &error_ambiguous_credentials,
    &error_organization_forbidden,
    &error_caller_forbidden,
    &error_cross_origin,
    &error_misdirected,
    &error_route_not_found,
    &error_service_not_found,
    &error_integration_not_found,
    &error_method_not_allowed,
    &error_body_invalid,
    &error_body_too_large,
    &error_content_type_unsupported,
    &error_request_invalid,
    &error_state_invalid,
    &error_issuer_mismatch,
    &error_consent_declined,
    &error_authorization_failed,
    &error_code_rejected,
    &error_identity_invalid,
    &error_scopes_missing,
    &error_offline_access_missing,
    &error_account_mismatch,
    &error_reconnect_required,
    &error_provider_misconfigured,
    &error_provider_unreachable,
    &error_provider_refused_token,
    &error_store_unavailable,
    &error_rate_limited,
    &error_overloaded,
    &error_internal,
};

const struct error *
error_find(const char *code)
{
	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
		if (code != NULL && strcmp(all[i]->code, code) == 0)
			return all[i];
	}
	return NULL;
}

const struct api_status api_statuses[API_STATUS_COUNT] = {
    {200, "OK"},
    {500, "Internal Server Error"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {409, "Conflict"},
    {413, "Payload Too Large"},
    {415, "Unsupported Media Type"},
    {421, "Misdirected Request"},
    {422, "Unprocessable Entity"},
    {429, "Too Many Requests"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
};

size_t
api_status_index(int status)
{
	for (size_t i = 0; i < API_STATUS_COUNT; i++) {
		if (api_statuses[i].status == status)
			return i;
	}
	return 1;
}
