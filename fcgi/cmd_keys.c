/* Keys of the key ring that seals stored tokens. */
#include "common/arena.h"
#include "common/seal.h"
#include "fcgi/cmd.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int
keys_new(void)
{
	struct arena *arena = arena_open(4096, 4096, NULL, NULL);

	if (arena == NULL)
		return CMD_FAILED;
	if (isatty(STDERR_FILENO))
		fprintf(stderr,
			"Put this line first into the file that TOKEN_KEYS_FILE names; keep the lines below it.\n");
	printf("%s\n", key_ring_new_line(arena));
	arena_close(arena);
	return CMD_OK;
}

int
cmd_keys(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "new") == 0)
		return keys_new();
	return cmd_usage("keys",
			 argc < 2 ? "say what to do with keys: new"
				  : "\"%s\" is not known here, or has more "
				    "arguments than it takes",
			 argv[1]);
}
