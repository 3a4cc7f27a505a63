/* Keys for programs of the platform. A key is printed once and stored only as its hash. */
#include "common/arena.h"
#include "common/random.h"
#include "common/text.h"
#include "fcgi/cmd.h"
#include "fcgi/cmd_run.h"
#include "fcgi/store_caller.h"
#include "fcgi/task.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

struct options {
	struct arena *arena;
	const char *name;
	const char *mcps;
	const char *organizations;
	int64_t ttl;
	struct caller caller;
};

static int
create(struct task *task, void *arg)
{
	const struct options *options = arg;
	const char *key = random_token(task->arena);

	if (store_caller_write(task, key, &options->caller, options->ttl) != NULL)
		return cmd_store_failed();
	fprintf(stderr, "A caller named %s, good for %lld s. Its key, shown only now, is a secret:\n", options->name,
		(long long)options->ttl);
	printf("%s\n", key);
	return CMD_OK;
}

static int
revoke_caller(struct task *task, void *arg)
{
	const struct options *options = arg;
	size_t count;

	if (store_caller_delete(task, options->name, &count) != NULL)
		return cmd_store_failed();
	printf("%zu key%s of %s revoked.\n", count, count == 1 ? "" : "s", options->name);
	return count > 0 ? CMD_OK : CMD_FAILED;
}

static const char *
life(struct arena *arena, int64_t seconds)
{
	if (seconds < 0)
		return "no end";
	if (seconds >= 2 * 24 * 60 * 60)
		return arena_format(arena, "%lld days", (long long)(seconds / (24 * 60 * 60)));
	return arena_format(arena, "%lld minutes", (long long)(seconds / 60));
}

static void
print_caller(struct arena *arena, const struct caller_entry *entry)
{
	printf("%s: ends in %s; MCPs: %s; organizations: %s\n", cmd_shown(arena, entry->caller.name),
	       life(arena, entry->ttl), cmd_shown(arena, words_join(arena, &entry->caller.mcps)),
	       cmd_shown(arena, words_join(arena, &entry->caller.organizations)));
}

static int
list(struct task *task, void *arg)
{
	struct caller_list callers;

	(void)arg;
	if (store_caller_list(task, &callers) != NULL)
		return cmd_store_failed();
	if (callers.count == 0)
		fprintf(stderr, "No callers.\n");
	for (size_t i = 0; i < callers.count; i++)
		print_caller(task->arena, &callers.items[i]);
	return CMD_OK;
}

/* Only `y` is a yes. */
static bool
is_confirmed(void)
{
	char answer[8] = {0};

	fflush(stdout);
	return fgets(answer, sizeof answer, stdin) != NULL && (answer[0] == 'y' || answer[0] == 'Y') &&
	       (answer[1] == '\n' || answer[1] == '\0');
}

/* What is signed is what was shown: the rows as they were read before the question. */
static int
sign(struct task *task, void *arg)
{
	struct caller_list callers;
	size_t count = 0;
	size_t changed = 0;

	(void)arg;
	if (store_caller_list(task, &callers) != NULL)
		return cmd_store_failed();
	for (size_t i = 0; i < callers.count; i++) {
		if (store_caller_has_mac(&callers.items[i]))
			continue;
		print_caller(task->arena, &callers.items[i]);
		callers.items[count++] = callers.items[i];
	}
	if (count == 0) {
		printf("No caller is without a MAC.\n");
		return CMD_OK;
	}
	fprintf(stderr, "Who can write to Redis may have made up any of these. Sign all %zu of them? [y/N] ", count);
	if (!is_confirmed()) {
		fprintf(stderr, "Nothing is signed. Revoke those that you do not know, then run this again.\n");
		return CMD_FAILED;
	}
	for (size_t i = 0; i < count; i++) {
		bool done;

		if (store_caller_sign(task, &callers.items[i], &done) != NULL)
			return cmd_store_failed();
		changed += done ? 0 : 1;
	}
	printf("%zu signed, %zu changed meanwhile.\n", count - changed, changed);
	return changed > 0 ? CMD_FAILED : CMD_OK;
}

static bool
are_organizations(const struct words *words)
{
	if (words->count == 1 && strcmp(words->items[0], "*") == 0)
		return true;
	for (size_t i = 0; i < words->count; i++) {
		if (!text_is_id(words->items[i]))
			return false;
	}
	return words->count > 0;
}

static int
check_options(struct options *options)
{
	struct caller *caller = &options->caller;

	*caller = (struct caller){.found = true, .name = options->name};
	caller->mcps = words_split(options->arena, options->mcps);
	caller->organizations = words_split(options->arena, options->organizations);
	if (!text_is_id(options->name))
		return cmd_usage("caller", "--name is needed: letters, digits, _ and -, at most 64");
	if (!cmd_are_names(&caller->mcps))
		return cmd_usage("caller", "--mcps needs names of MCPs, separated by spaces");
	if (!are_organizations(&caller->organizations))
		return cmd_usage("caller", "--orgs needs ids of organizations, separated by spaces, or \"*\" for all");
	return CMD_OK;
}

static int
read_options(int argc, char **argv, struct options *options)
{
	static const struct option known[] = {
	    {"name", required_argument, NULL, 'n'},
	    {"mcps", required_argument, NULL, 'm'},
	    {"orgs", required_argument, NULL, 'o'},
	    {"ttl", required_argument, NULL, 't'},
	    {NULL, 0, NULL, 0},
	};
	int option;

	opterr = 0;
	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (option) {
		case 'n': options->name = optarg; break;
		case 'm': options->mcps = optarg; break;
		case 'o': options->organizations = optarg; break;
		case 't':
			if (!cmd_duration(optarg, &options->ttl))
				return cmd_usage("caller", "--ttl \"%s\" is not a duration; write 12h or 90d", optarg);
			break;
		default: return cmd_usage("caller", "\"%s\" is unknown or lacks its value", argv[optind - 1]);
		}
		if (strlen(optarg) > CMD_VALUE_MAX)
			return cmd_usage("caller", "an argument is over %d bytes", CMD_VALUE_MAX);
	}
	if (optind < argc)
		return cmd_usage("caller", "unexpected argument \"%s\"", argv[optind]);
	return CMD_OK;
}

static int
caller_create(struct options *options)
{
	int status = check_options(options);

	return status == CMD_OK ? cmd_run(CONFIG_RING, create, options) : status;
}

static int
caller_revoke(struct options *options)
{
	if (!text_is_id(options->name))
		return cmd_usage("caller", "--name is needed: whose keys shall be revoked?");
	return cmd_run(CONFIG_STORE, revoke_caller, options);
}

int
cmd_caller(int argc, char **argv)
{
	struct options options = {.ttl = 90 * 24 * 60 * 60};
	const char *what = argc >= 2 ? argv[1] : "";
	int status;

	options.arena = arena_open(4096, (size_t)1024 * 1024, NULL, NULL);
	if (options.arena == NULL)
		return CMD_FAILED;
	status = argc >= 2 ? read_options(argc - 1, argv + 1, &options) : CMD_OK;
	if (status != CMD_OK)
		status = CMD_USAGE;
	else if (strcmp(what, "create") == 0)
		status = caller_create(&options);
	else if (strcmp(what, "revoke") == 0)
		status = caller_revoke(&options);
	else if (strcmp(what, "list") == 0 && argc == 2)
		status = cmd_run(CONFIG_STORE, list, NULL);
	else if (strcmp(what, "sign") == 0 && argc == 2)
		status = cmd_run(CONFIG_RING, sign, NULL);
	else
		status = cmd_usage("caller", "say `create ...`, `revoke --name N`, `list` or `sign`");
	arena_close(options.arena);
	return status;
}
