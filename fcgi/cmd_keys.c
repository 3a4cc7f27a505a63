/*
 * The key ring that seals stored tokens and authenticates callers: a new line for it, and sealing everything anew under
 * its first key. The way to a new key: put its line first into the file of TOKEN_KEYS_FILE, reload all hosts (SIGHUP),
 * rotate, and take the old line out when nothing is left under it and the flows that began under it are over.
 */
#include "common/arena.h"
#include "common/seal.h"
#include "fcgi/app.h"
#include "fcgi/cmd.h"
#include "fcgi/cmd_run.h"
#include "fcgi/store_caller.h"
#include "fcgi/store_rotate.h"
#include "fcgi/task.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PAGE_FIRST ((size_t)256 * 1024)
#define PAGE_LIMIT ((size_t)256 * 1024 * 1024)
#define BAR_WIDTH 40

static int
keys_new(void)
{
	struct arena *arena = arena_open(4096, 4096, NULL, NULL);

	if (arena == NULL)
		return CMD_FAILED;
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "Put this line first into the file that TOKEN_KEYS_FILE names; keep those below it.\n");
	printf("%s\n", key_ring_new_line(arena));
	arena_close(arena);
	return CMD_OK;
}

static void
print_progress(const struct rotation *rotation)
{
	int filled = (int)(rotation->done * BAR_WIDTH);

	if (!isatty(STDERR_FILENO))
		return;
	fprintf(stderr, "\r[");
	for (int i = 0; i < BAR_WIDTH; i++)
		fputc(i < filled ? '#' : ' ', stderr);
	fprintf(stderr, "] %3d %%  %zu credentials%s", (int)(rotation->done * 100), rotation->seen,
		rotation->over ? "\n" : "");
	fflush(stderr);
}

static int
report(const struct app *app, const struct rotation *rotation)
{
	printf(
	    "%zu credentials: %zu sealed anew, %zu were current, %zu written by workers meanwhile, %zu unreadable.\n",
	    rotation->seen, rotation->sealed_anew, rotation->current, rotation->changed, rotation->unreadable);
	for (size_t i = 0; i < rotation->key_count; i++) {
		bool first = strcmp(rotation->keys[i].id, key_ring_first(app->config->keys)) == 0;

		printf("  under %s: %zu%s\n", rotation->keys[i].id, rotation->keys[i].count,
		       first ? " (first key)" : "");
	}
	if (rotation->unreadable > 0)
		printf("The command left unreadable credentials as they are: TOKEN_KEYS lacks their key, or "
		       "ENVIRONMENT has changed.\n");
	if (rotation->changed > 0)
		printf("Run the command once more: workers wrote some credentials meanwhile.\n");
	return rotation->unreadable > 0 || rotation->changed > 0 ? CMD_FAILED : CMD_OK;
}

static int
report_callers(const struct caller_renewal *callers)
{
	size_t count = callers->renewed + callers->current + callers->without_mac + callers->refused + callers->changed;

	if (count == 0)
		return CMD_OK;
	printf("%zu callers: %zu MACs renewed, %zu were current, %zu without one, %zu refused, %zu changed by others "
	       "meanwhile.\n",
	       count, callers->renewed, callers->current, callers->without_mac, callers->refused, callers->changed);
	if (callers->refused > 0)
		printf("What is refused was left as it is: its MAC is wrong, or its key is not in TOKEN_KEYS.\n");
	return callers->refused > 0 || callers->changed > 0 ? CMD_FAILED : CMD_OK;
}

/* Each page in memory of its own, wiped after it: tokens are open in it for a moment. */
static int
rotate(struct task *task, void *arg)
{
	struct rotation rotation = {.done = 0};
	struct caller_renewal callers;
	int status;
	struct task page = {.app = task->app, .arena = arena_open(PAGE_FIRST, PAGE_LIMIT, NULL, NULL)};
	const struct error *error = NULL;

	(void)arg;
	if (page.arena == NULL)
		return CMD_FAILED;
	while (error == NULL && !rotation.over) {
		error = store_rotate_page(&page, &rotation);
		arena_reset(page.arena);
		print_progress(&rotation);
	}
	arena_close(page.arena);
	if (error == NULL)
		error = store_caller_renew(task, &callers);
	if (error == NULL) {
		status = report(task->app, &rotation);
		return report_callers(&callers) == CMD_OK ? status : CMD_FAILED;
	}
	fprintf(stderr, "\nNot all is done (%zu sealed anew): run the same command again.\n", rotation.sealed_anew);
	return cmd_store_failed();
}

int
cmd_keys(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "new") == 0)
		return keys_new();
	if (argc == 2 && strcmp(argv[1], "rotate") == 0)
		return cmd_run(CONFIG_KEYS, rotate, NULL);
	return cmd_usage("keys", "say `new` or `rotate`");
}
