/* The API proxy: whose session is good for it. The token opens everything that was granted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/arena.h"
#include "fcgi/api_error.h"
#include "fcgi/provider.h"
#include "fcgi/request.h"
#include "fcgi/response.h"
#include "fcgi/route.h"
#include "fcgi/tokens_vend.h"

static struct provider_mcp mcps[] = {{.mcp = "mail"}, {.mcp = "files"}};

/* In place of the connection: there is one, and it has a token. */
const struct error *
tokens_vend(struct task *task, const struct token_options *options, const struct words *scopes,
	    struct vended_token *out)
{
	(void)task;
	(void)options;
	(void)scopes;
	*out = (struct vended_token){.credential = {.access_token = "ya29.MARKER"}};
	return NULL;
}

static const struct error *
ask(size_t mcp_count, const char *session_mcps)
{
	struct arena *arena = arena_open(4096, 65536, NULL, NULL);
	struct provider provider = {.service = "example",
				    .api_base = "https://api.example",
				    .api_paths = words_split(arena, "/v1/"),
				    .mcps = mcps,
				    .mcp_count = mcp_count};
	struct request request = {.task = {.arena = arena, .provider = &provider},
				  .query = "",
				  .path_suffix = "/v1/things",
				  .session = {.found = true, .binding = "token:MARKER", .mcps = session_mcps}};
	struct response response = {.arena = arena};
	const struct error *error = route_gateway_proxy(&request, &response);

	arena_close(arena);
	return error;
}

static void
every_mcp_will_do(void **state)
{
	(void)state;
	assert_null(ask(2, "files mail more"));
}

static void
none_is_not_every_one(void **state)
{
	(void)state;
	assert_ptr_equal(ask(0, "mail"), &error_caller_forbidden);
	assert_ptr_equal(ask(0, ""), &error_caller_forbidden);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_mcp_will_do),
	    cmocka_unit_test(none_is_not_every_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
