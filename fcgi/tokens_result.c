/* The one table of what each result means. */
#include "fcgi/tokens_result.h"

#include "common/text.h"
#include "fcgi/api_error.h"
#include "fcgi/store_integration.h"

#include <stddef.h>

static const struct token_result_info result_infos[] = {
    [TOKEN_GOOD] = {"valid", NULL, true, NULL},
    [TOKEN_GONE] = {NULL, NULL, false, &error_integration_not_found},
    [TOKEN_REMOVED] = {NULL, NULL, false, &error_organization_forbidden},
    [TOKEN_DEAD] = {"invalid", "grant_revoked", true, &error_reconnect_required},
    [TOKEN_UNREADABLE] = {"unknown", "tokens_unreadable", false, &error_reconnect_required},
    [TOKEN_FOREIGN] = {"unknown", "provider_changed", false, &error_reconnect_required},
    [TOKEN_POLICY] = {"unknown", "provider_policy", true, &error_reconnect_required},
    [TOKEN_CLIENT] = {"unknown", "provider_misconfigured", true, &error_provider_misconfigured},
    [TOKEN_UNREACHABLE] = {"unknown", "provider_unreachable", false, &error_provider_unreachable},
    [TOKEN_IDENTITY] = {"unknown", "identity_changed", true, &error_reconnect_required},
    [TOKEN_CROWDED] = {NULL, "overloaded", false, &error_overloaded},
};

const struct token_result_info *
tokens_result_info(enum token_result result)
{
	return &result_infos[result];
}

bool
tokens_are_of_another(const struct integration *record)
{
	return text_equal(record->status_reason, result_infos[TOKEN_IDENTITY].reason);
}
