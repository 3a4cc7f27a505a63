/* Commands put together before they are sent, and a look into replies. */
#include "common/redis.h"

#include "common/arena.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define WORDS_MAX 64 /* in one command */

void
redis_batch_init(struct redis_batch *batch, struct arena *arena)
{
	batch->arena = arena;
	batch->count = 0;
}

static struct redis_command *
command_new(struct redis_batch *batch, int argc)
{
	struct redis_command *command = &batch->commands[batch->count];

	if (batch->count == REDIS_BATCH_MAX)
		abort(); /* callers know how much they ask for */
	batch->count++;
	command->argc = argc;
	command->argv = arena_alloc(batch->arena, (size_t)argc * sizeof *command->argv);
	command->lengths = arena_alloc(batch->arena, (size_t)argc * sizeof *command->lengths);
	command->script = NULL;
	command->tail = NULL;
	return command;
}

void
redis_add_argv(struct redis_batch *batch, int argc, const char *const *argv)
{
	struct redis_command *command = command_new(batch, argc);

	for (int i = 0; i < argc; i++) {
		command->argv[i] = argv[i];
		command->lengths[i] = strlen(argv[i]);
	}
}

void
redis_add(struct redis_batch *batch, ...)
{
	const char *words[WORDS_MAX];
	const char *word;
	int count_words = 0;
	va_list list;

	va_start(list, batch);
	while ((word = va_arg(list, const char *)) != NULL) {
		if (count_words == WORDS_MAX)
			abort();
		words[count_words++] = word;
	}
	va_end(list);
	redis_add_argv(batch, count_words, words);
}

void
redis_add_hmget(struct redis_batch *batch, const char *key, const struct resp_tail *fields)
{
	const char *const argv[] = {"HMGET", key};

	redis_add_argv(batch, 2, argv);
	batch->commands[batch->count - 1].tail = fields;
}

void
redis_add_script(struct redis_batch *batch, const struct redis_script *script, const char *const *keys,
		 const char *const *arguments)
{
	struct redis_command *command;
	int key_count = 0;
	int argument_count = 0;

	while (keys[key_count] != NULL)
		key_count++;
	while (arguments[argument_count] != NULL)
		argument_count++;
	command = command_new(batch, 3 + key_count + argument_count);
	command->script = script;
	command->argv[0] = "EVALSHA";
	command->argv[1] = script->sha1;
	command->argv[2] = arena_format(batch->arena, "%d", key_count);
	for (int i = 0; i < key_count; i++)
		command->argv[3 + i] = keys[i];
	for (int i = 0; i < argument_count; i++)
		command->argv[3 + key_count + i] = arguments[i];
	for (int i = 0; i < command->argc; i++)
		command->lengths[i] = strlen(command->argv[i]);
}

const char *
redis_item(const struct redis_reply *reply, size_t index)
{
	if (reply == NULL || reply->type != REDIS_ARRAY || index >= reply->count || reply->items[index] == NULL ||
	    reply->items[index]->type != REDIS_STRING)
		return NULL;
	return reply->items[index]->text;
}

const char *
redis_field(const struct redis_reply *reply, const char *field)
{
	if (reply == NULL || reply->type != REDIS_ARRAY)
		return NULL;
	for (size_t i = 0; i + 1 < reply->count; i += 2) {
		const char *name = redis_item(reply, i);

		if (name != NULL && strcmp(name, field) == 0)
			return redis_item(reply, i + 1);
	}
	return NULL;
}
