/* The table of codes and statuses that the API promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/text.h"
#include "fcgi/api_error.h"

#include <string.h>

static const struct {
	const struct error *error;
	const char *code;
	int status;
} promised[] = {
    {&error_unauthenticated, "unauthenticated", 401},
    {&error_ambiguous_credentials, "ambiguous_credentials", 400},
    {&error_organization_forbidden, "organization_forbidden", 403},
    {&error_cross_origin, "cross_origin", 403},
    {&error_misdirected, "misdirected", 421},
    {&error_route_not_found, "route_not_found", 404},
    {&error_service_not_found, "service_not_found", 404},
    {&error_integration_not_found, "integration_not_found", 404},
    {&error_method_not_allowed, "method_not_allowed", 405},
    {&error_body_invalid, "body_invalid", 400},
    {&error_body_too_large, "body_too_large", 413},
    {&error_content_type_unsupported, "content_type_unsupported", 415},
    {&error_request_invalid, "request_invalid", 400},
    {&error_state_invalid, "state_invalid", 400},
    {&error_issuer_mismatch, "issuer_mismatch", 400},
    {&error_consent_declined, "consent_declined", 400},
    {&error_authorization_failed, "authorization_failed", 400},
    {&error_code_rejected, "code_rejected", 400},
    {&error_identity_invalid, "identity_invalid", 502},
    {&error_scopes_missing, "scopes_missing", 422},
    {&error_offline_access_missing, "offline_access_missing", 409},
    {&error_account_mismatch, "account_mismatch", 409},
    {&error_reconnect_required, "reconnect_required", 409},
    {&error_provider_misconfigured, "provider_misconfigured", 502},
    {&error_provider_unreachable, "provider_unreachable", 502},
    {&error_provider_refused_token, "provider_refused_token", 502},
    {&error_rate_limited, "rate_limited", 429},
    {&error_store_unavailable, "store_unavailable", 503},
    {&error_overloaded, "overloaded", 503},
    {&error_caller_forbidden, "caller_forbidden", 403},
    {&error_internal, "internal_error", 500},
};

enum { COUNT = sizeof promised / sizeof promised[0] };

static void
codes_and_statuses_are_as_promised(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT; i++) {
		assert_string_equal(promised[i].error->code, promised[i].code);
		assert_int_equal(promised[i].error->status, promised[i].status);
		assert_true(text_is_name(promised[i].code));
		for (size_t j = 0; j < i; j++) {
			assert_string_not_equal(promised[i].code, promised[j].code);
			assert_string_not_equal(promised[i].error->title, promised[j].error->title);
		}
	}
}

/* Else the metrics would count it as a 500, and nginx would read that phrase. */
static void
each_status_is_in_the_list(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT; i++)
		assert_int_equal(api_statuses[api_status_index(promised[i].status)].status, promised[i].status);
	assert_int_equal(api_statuses[api_status_index(200)].status, 200);
	assert_int_equal(api_statuses[api_status_index(418)].status, 500);
}

static void
finds_each_by_its_code(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT; i++)
		assert_ptr_equal(error_find(promised[i].code), promised[i].error);
	assert_null(error_find("internal"));
	assert_null(error_find("Internal_error"));
	assert_null(error_find(""));
	assert_null(error_find(NULL));
}

/* `detail` is one sentence, short enough for a toast. */
static void
details_are_sentences(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT; i++) {
		const char *detail = promised[i].error->detail;
		size_t len = strlen(detail);
		assert_in_range(len, 20, 120);
		assert_int_equal(detail[len - 1], '.');
		assert_true(detail[0] >= 'A' && detail[0] <= 'Z');
		assert_null(strstr(detail, ". "));
		assert_true(text_is_utf8(detail, len));
		const char *title = promised[i].error->title;
		assert_in_range(strlen(title), 5, 60);
		assert_int_not_equal(title[strlen(title) - 1], '.');
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(codes_and_statuses_are_as_promised),
	    cmocka_unit_test(each_status_is_in_the_list),
	    cmocka_unit_test(finds_each_by_its_code),
	    cmocka_unit_test(details_are_sentences),
	};
	return cmocka_run_group_tests_name("error", tests, NULL, NULL);
}
