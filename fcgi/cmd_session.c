/*
 * Sessions for operators and tests: the platform's login writes its own in the same form. The token is printed once and
 * stored only as its hash. Each created session is a login of its own: it gets a new `sid`.
 */
#include "common/arena.h"
#include "common/error.h"
#include "common/random.h"
#include "common/text.h"
#include "fcgi/cmd.h"
#include "fcgi/cmd_run.h"
#include "fcgi/store_session.h"
#include "fcgi/task.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ORGANIZATIONS_MAX STORE_SESSION_ORGANIZATIONS_MAX /* more than these would be stored and not be shown */
#define FIELDS_MAX (2 * (ORGANIZATIONS_MAX + 7))

struct fields {
	const char *text[FIELDS_MAX + 1];
	size_t count;
};

struct options {
	struct arena *arena;
	const char *user;
	const char *email;
	const char *name;
	const char *use;
	const char *mcps;
	const char *agent;
	const char *organizations[ORGANIZATIONS_MAX];
	size_t organization_count;
	int64_t ttl;
	struct fields fields; /* what is stored */
};

static void
add_field(struct fields *fields, const char *name, const char *value)
{
	if (value == NULL)
		return;
	if (fields->count + 2 > FIELDS_MAX)
		abort(); /* fill_fields knows how many there are */
	fields->text[fields->count++] = name;
	fields->text[fields->count++] = value;
}

/* "acme" or "acme:admin" as the field "org:acme" and the role; false when it is neither. */
static bool
add_organization(struct fields *fields, struct arena *arena, const char *text)
{
	const char *colon = strchr(text, ':');
	const char *role = colon != NULL ? colon + 1 : "member";
	const char *id = arena_copy(arena, text, colon != NULL ? (size_t)(colon - text) : strlen(text));

	if (!text_is_id(id) || !text_is_id(role))
		return false;
	add_field(fields, arena_format(arena, "org:%s", id), role);
	return true;
}

static int
create(struct task *task, void *arg)
{
	const struct options *options = arg;
	const char *token = random_token(task->arena);

	if (store_session_write(task, token, options->fields.text, options->ttl) != NULL)
		return cmd_store_failed();
	fprintf(stderr, "A session of user %s, good for %lld s%s. Its token, shown only now, is a secret:\n",
		options->user, (long long)options->ttl,
		options->use != NULL ? ", as bearer at the MCP gateway and proxy only" : "");
	printf("%s\n", token);
	return CMD_OK;
}

static int
revoke_session(struct task *task, void *arg)
{
	const char *token = cmd_read_secret(task->arena);
	bool existed;

	(void)arg;
	if (token == NULL)
		return cmd_usage("session", "standard input holds no token");
	if (store_session_delete(task, token, &existed) != NULL)
		return cmd_store_failed();
	if (!existed) {
		fprintf(stderr, "Redis holds no such session: it has ended, or the token is wrong.\n");
		return CMD_FAILED;
	}
	printf("The session has ended.\n");
	return CMD_OK;
}

static int
check_options(const struct options *options)
{
	const struct words mcps = words_split(options->arena, options->mcps);

	if (!text_is_id(options->user))
		return cmd_usage("session", "--user needs an id: letters, digits, _ and -, at most 64");
	if (options->organization_count == 0)
		return cmd_usage("session", "--org is missing: a session without an organization opens nothing");
	if (options->use != NULL && strcmp(options->use, "gateway") != 0)
		return cmd_usage("session", "--use knows only \"gateway\"");
	if ((options->use != NULL) != (options->mcps != NULL))
		return cmd_usage("session", "--use gateway and --mcps \"gmail ...\" belong together");
	if (options->mcps != NULL && !cmd_are_names(&mcps))
		return cmd_usage("session", "--mcps needs names of MCPs, separated by spaces");
	if (options->agent != NULL && (options->use == NULL || !text_is_id(options->agent)))
		return cmd_usage("session",
				 "--agent needs --use gateway and a name: letters, digits, _ and -, at most 64");
	return CMD_OK;
}

static int
fill_fields(struct options *options)
{
	struct fields *fields = &options->fields;

	add_field(fields, "user_id", options->user);
	add_field(fields, "email", options->email);
	add_field(fields, "name", options->name);
	add_field(fields, "sid", random_id(options->arena));
	add_field(fields, "use", options->use);
	add_field(fields, "mcps", options->mcps);
	add_field(fields, "agent", options->agent);
	for (size_t i = 0; i < options->organization_count; i++) {
		if (!add_organization(fields, options->arena, options->organizations[i]))
			return cmd_usage("session", "--org \"%s\" is not an organization; write ID or ID:role",
					 options->organizations[i]);
	}
	return CMD_OK;
}

static int
take_option(struct options *options, int option, const char *value)
{
	switch (option) {
	case 'u': options->user = value; break;
	case 'e': options->email = value; break;
	case 'n': options->name = value; break;
	case 'g': options->use = value; break;
	case 'm': options->mcps = value; break;
	case 'a': options->agent = value; break;
	case 'o':
		if (options->organization_count == ORGANIZATIONS_MAX)
			return cmd_usage("session", "at most %d organizations fit into one session", ORGANIZATIONS_MAX);
		options->organizations[options->organization_count++] = value;
		break;
	case 't':
		if (!cmd_duration(value, &options->ttl))
			return cmd_usage("session", "--ttl \"%s\" is not a duration; write 90s, 15m, 8h or 30d", value);
		break;
	default: return CMD_USAGE;
	}
	if (strlen(value) > CMD_VALUE_MAX)
		return cmd_usage("session", "an argument is over %d bytes", CMD_VALUE_MAX);
	if (!text_is_utf8(value, strlen(value)))
		return cmd_usage("session", "an argument is not valid UTF-8");
	return CMD_OK;
}

static int
read_options(int argc, char **argv, struct options *options)
{
	static const struct option known[] = {
	    {"user", required_argument, NULL, 'u'},
	    {"org", required_argument, NULL, 'o'},
	    {"ttl", required_argument, NULL, 't'},
	    {"email", required_argument, NULL, 'e'},
	    {"name", required_argument, NULL, 'n'},
	    {"use", required_argument, NULL, 'g'},
	    {"mcps", required_argument, NULL, 'm'},
	    {"agent", required_argument, NULL, 'a'},
	    {NULL, 0, NULL, 0},
	};
	int option;
	int status;

	opterr = 0;
	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		if (option == '?')
			return cmd_usage("session", "\"%s\" is unknown or lacks its value", argv[optind - 1]);
		if ((status = take_option(options, option, optarg)) != CMD_OK)
			return status;
	}
	if (optind < argc)
		return cmd_usage("session", "unexpected argument \"%s\"", argv[optind]);
	return CMD_OK;
}

static int
session_create(int argc, char **argv)
{
	struct options options = {.ttl = 8 * 60 * 60};
	int status;

	options.arena = arena_open(4096, (size_t)1024 * 1024, NULL, NULL);
	if (options.arena == NULL)
		return CMD_FAILED;
	status = read_options(argc, argv, &options);
	if (status == CMD_OK)
		status = check_options(&options);
	if (status == CMD_OK)
		status = fill_fields(&options);
	if (status == CMD_OK)
		status = cmd_run(CONFIG_STORE, create, &options);
	arena_close(options.arena);
	return status;
}

int
cmd_session(int argc, char **argv)
{
	if (argc >= 2 && strcmp(argv[1], "create") == 0)
		return session_create(argc - 1, argv + 1);
	if (argc == 3 && strcmp(argv[1], "revoke") == 0 && strcmp(argv[2], "-") == 0)
		return cmd_run(CONFIG_STORE, revoke_session, NULL);
	return cmd_usage("session", "say `create ...`, or `revoke -` with the token on standard input");
}
