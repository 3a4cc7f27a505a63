/*
 * Settings: environment variables, read once into a struct (deploy/SETTINGS.md). Every mistake is found, not only the
 * first; a secret's value never stands in a message.
 */
#ifndef FCGI_CONFIG_H
#define FCGI_CONFIG_H

#include "common/log.h"
#include "common/url.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct arena;
struct key_ring;
struct provider;

struct config_keys_file {
	const char *path;
	int64_t looked_ms; /* when it was last looked into for a key that we lack */
};

struct config {
	struct arena *arena; /* holds everything below */
	struct url public_url;
	const char *redis_url;
	const char *session_redis_url; /* equal to redis_url where sessions live in the same place */
	const char *redis_admin_url;
	const char *listen; /* path of the FastCGI socket */
	unsigned workers;
	unsigned max_in_flight;
	const char *environment;
	const char *providers_dir;
	struct provider **providers; /* sorted by service */
	size_t provider_count;
	struct key_ring *keys;
	bool seal_second;       /* tokens are written in the second form */
	bool seal_accept_first; /* and read in the first one, too */
	bool caller_mac_required;
	struct config_keys_file *keys_file; /* NULL: they do not come from a file */
	const char *session_cookie;
	const char *sign_in_url;      /* NULL: none */
	const char *provider_ca_file; /* NULL: the system's */
	bool provider_allow_private;
	unsigned limit_auth_link; /* a minute; 0: off */
	unsigned limit_validate;
	unsigned audit_uses; /* entries kept per organization; 0: the log has them */
	enum log_level log_level;
};

/* What a command needs: settings that it does not need may be missing, never wrong. */
enum config_need {
	CONFIG_ALL,   /* serve, check */
	CONFIG_STORE, /* session, list, events, most of caller: only Redis */
	CONFIG_RING,  /* caller create, caller sign: Redis, keys */
	CONFIG_KEYS   /* remove, rotate: Redis, providers, keys */
};

struct config_mistakes {
	size_t count;
	const char *text[32]; /* "PUBLIC_URL: is not set -> give the address ..."; in `memory` */
	char memory[8192];
	size_t used;
};

/* Read the environment. NULL when there were mistakes. Close with config_close. */
struct config *config_open(enum config_need need, struct config_mistakes *mistakes);
void config_close(struct config *config);

/*
 * Remove every secret from this process's environment, and overwrite it there. For workers, which have read theirs; the
 * parent keeps its own to read the settings again.
 */
void config_scrub_environment(void);

/*
 * Something was sealed under a key `id` (NULL: not known) that we may lack: another worker was told of it sooner, by
 * a reload. True when the key has now been found in the file that the ring comes from; from then on we seal as that
 * file says, too, so that a rotation leaves nothing behind. Looks at most once a second.
 */
bool config_learn_key(const struct config *config, const char *id);

/* The enabled provider of `service`, or NULL. */
const struct provider *config_provider(const struct config *config, const char *service);

#endif
