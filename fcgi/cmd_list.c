/* Connections with their status, never their tokens: a table for people, the API's records for programs. */
#include "common/arena.h"
#include "common/error.h"
#include "common/json_write.h"
#include "fcgi/cmd.h"
#include "fcgi/cmd_run.h"
#include "fcgi/response.h"
#include "fcgi/store_integration.h"
#include "fcgi/task.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#define JSON_MAX ((size_t)512 * 1024 * 1024)
#define COLUMNS 7

static int
print_json(struct arena *arena, const struct integration *records, size_t count)
{
	struct json_write *json = json_write_open(arena, JSON_MAX);
	const char *document;
	size_t len;

	json_write_object(json, NULL);
	json_write_array(json, "integrations");
	for (size_t i = 0; i < count; i++)
		response_record(json, NULL, &records[i]);
	json_write_array_end(json);
	json_write_object_end(json);
	document = json_write_finish(json, &len);
	if (document == NULL) {
		fprintf(stderr, "integrations: a stored record is not valid text, or the organization has too many; "
				"list one --user\n");
		return CMD_FAILED;
	}
	printf("%s\n", document);
	return CMD_OK;
}

static void
fill_row(struct arena *arena, const struct integration *record, const char *row[COLUMNS])
{
	const char *email = record->oauth_email != NULL ? record->oauth_email : record->oauth_user_id;

	row[0] = cmd_shown(arena, record->connection_key.user);
	row[1] = cmd_shown(arena, record->connection_key.service);
	row[2] = cmd_shown(arena, record->status);
	row[3] = cmd_shown(arena, record->status_reason);
	row[4] = cmd_shown(arena, email);
	row[5] = cmd_shown(arena, record->connected_at);
	row[6] = cmd_shown(arena, record->validated_at);
}

/* Columns are as wide as their widest value; the last one ends its line. */
static void
print_table(struct arena *arena, const struct integration *records, size_t count)
{
	static const char *const titles[COLUMNS] = {"USER",    "SERVICE",   "STATUS", "REASON",
						    "ACCOUNT", "CONNECTED", "CHECKED"};
	const char *(*rows)[COLUMNS] = arena_alloc(arena, (count + 1) * sizeof *rows);
	size_t widths[COLUMNS] = {0};

	memcpy(rows[0], titles, sizeof titles);
	for (size_t i = 0; i < count; i++)
		fill_row(arena, &records[i], rows[i + 1]);
	for (size_t i = 0; i <= count; i++) {
		for (size_t column = 0; column < COLUMNS; column++) {
			size_t width = strlen(rows[i][column]);

			widths[column] = width > widths[column] ? width : widths[column];
		}
	}
	for (size_t i = 0; i <= count; i++) {
		for (size_t column = 0; column + 1 < COLUMNS; column++)
			printf("%-*s  ", (int)widths[column], rows[i][column]);
		printf("%s\n", rows[i][COLUMNS - 1]);
	}
}

static int
list(struct task *task, void *arg)
{
	const struct cmd_options *options = arg;
	struct integration *records;
	size_t count;

	if (store_integration_scan(task, options->organization, options->user, &records, &count) != NULL)
		return cmd_store_failed();
	if (options->json)
		return print_json(task->arena, records, count);
	if (count == 0)
		fprintf(stderr, "No connections.\n");
	else
		print_table(task->arena, records, count);
	return CMD_OK;
}

int
cmd_list(int argc, char **argv)
{
	static const struct option known[] = {
	    {"org", required_argument, NULL, 'o'},
	    {"user", required_argument, NULL, 'u'},
	    {"json", no_argument, NULL, 'j'},
	    {NULL, 0, NULL, 0},
	};
	struct cmd_options options;
	int status = cmd_read_options(argc, argv, known, &options);

	return status == CMD_OK ? cmd_run(CONFIG_STORE, list, &options) : status;
}
