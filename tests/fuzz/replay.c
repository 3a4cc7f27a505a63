/*
 * Runs a fuzz target over files and over the files of folders, without libFuzzer: any compiler, any sanitizer. Each
 * input has memory of exactly its size. The last line counts them.
 */
#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <stdbool.h>
#include <sys/stat.h>

static unsigned replayed;
static unsigned failed;

static void
fail(const char *path)
{
	perror(path);
	failed++;
}

static void
replay_file(const char *path, size_t size)
{
	FILE *file = fopen(path, "rb");
	uint8_t *bytes = malloc(size == 0 ? 1 : size);
	if (file == NULL || bytes == NULL || fread(bytes, 1, size, file) != size) {
		fail(path);
	} else {
		/* Said before, so that the file is known when the target ends the process. */
		printf("%s\n", path);
		fflush(stdout);
		LLVMFuzzerTestOneInput(bytes, size);
		replayed++;
	}
	free(bytes);
	if (file != NULL)
		fclose(file);
}

static void
replay(const char *path)
{
	struct stat status;
	if (stat(path, &status) != 0) {
		fail(path);
		return;
	}
	if (!S_ISDIR(status.st_mode)) {
		replay_file(path, (size_t)status.st_size);
		return;
	}
	struct dirent **entries;
	int count = scandir(path, &entries, NULL, alphasort);
	if (count < 0) {
		fail(path);
		return;
	}
	for (int i = 0; i < count; i++) {
		char inner[4096];
		int len = snprintf(inner, sizeof inner, "%s/%s", path, entries[i]->d_name);
		if (entries[i]->d_name[0] != '.' && len > 0 && (size_t)len < sizeof inner)
			replay(inner);
		free(entries[i]);
	}
	free(entries);
}

int
main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		replay(argv[i]);
	printf("%u passed, %u failed\n", replayed, failed);
	return failed > 0 || replayed == 0;
}
