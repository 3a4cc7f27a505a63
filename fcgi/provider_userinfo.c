/* Which members of the answer name the account and its e-mail address, the provider file says. */
#include "fcgi/provider_userinfo.h"

#include "common/arena.h"
#include "common/json_read.h"
#include "fcgi/provider.h"
#include "fcgi/provider_call.h"
#include "fcgi/task.h"

#include <stddef.h>

static const char *
field_text(struct arena *arena, const struct json *answer, const char *field)
{
	const struct json *member = json_member(answer, field);

	/* Some providers number their accounts. */
	if (member == NULL || (member->type != JSON_STRING && member->type != JSON_NUMBER))
		return NULL;
	return arena_text(arena, member->text);
}

enum userinfo_result
provider_userinfo(struct task *task, const char *access_token, const char **account, const char **email)
{
	const struct provider *provider = task->provider;
	struct http_request call = {.method = "GET", .url = provider->userinfo_endpoint};
	struct http_response response;
	const struct json *answer;

	call.authorization = arena_format(task->arena, "Bearer %s", access_token);
	if (provider_call(task, ENDPOINT_USERINFO, &call, &response) != NULL)
		return USERINFO_UNREACHABLE;
	if (response.status == 401)
		return USERINFO_REFUSED;
	if (response.status == 403) {
		provider_complain(task, ENDPOINT_USERINFO, response.status, "the provider forbids the call",
				  "an administrator of the user's account at the provider must allow this application");
		return USERINFO_FORBIDDEN;
	}
	answer = response.status == 200 ? json_read(task->arena, response.body, response.len) : NULL;
	*account = field_text(task->arena, answer, provider->account_field);
	*email = field_text(task->arena, answer, provider->email_field);
	if (*account == NULL) {
		provider_complain(task, ENDPOINT_USERINFO, response.status, "the provider gave no usable answer",
				  "look at the provider's status page, and at userinfo_fields in the provider file");
		return USERINFO_UNREACHABLE;
	}
	return USERINFO_GOOD;
}
