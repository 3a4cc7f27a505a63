/* What config.c and its parts share: where one setting comes from, and the list of mistakes. */
#ifndef FCGI_CONFIG_INTERNAL_H
#define FCGI_CONFIG_INTERNAL_H

#include "fcgi/config.h"

#include <stddef.h>

struct config_reader {
	struct config *config; /* under construction */
	enum config_need need;
	struct config_mistakes *mistakes;
};

/* Note a mistake in `name`: "what is wrong -> what to do". */
void config_mistake(struct config_reader *reader, const char *name, const char *text);

/* The value of a plain setting; NULL when it is not set or empty. */
const char *config_setting(struct config_reader *reader, const char *name);

/* The value of a secret: of NAME, or of the file that NAME_FILE names, without its last line end. */
const char *config_secret(struct config_reader *reader, const char *name);

/* A whole number from `least` to `most`; `fallback` when it is not set. */
unsigned config_number(struct config_reader *reader, const char *name, unsigned fallback, unsigned least,
		       unsigned most);

/* The text of `path`, at most 64 KiB without NUL, or NULL and a sentence. A `secret` one must not be open to all. */
const char *config_file(struct arena *arena, const char *path, bool secret, size_t *len, const char **mistake);

/* config_providers.c: every file of PROVIDERS_DIR with its client id and secret. */
void config_read_providers(struct config_reader *reader);

#endif
