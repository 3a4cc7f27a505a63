/*
 * Settings are read one after the other into one struct; each mistake adds a sentence and reading goes on, so that an
 * operator sees all of them at once. What a command does not need may be missing, but what is set must be right.
 *
 * Everything is copied into the config's own arena, which config_close wipes: secrets live there and in the key ring,
 * and, until config_scrub_environment, in the environment.
 */
#include "fcgi/config.h"

#include "common/arena.h"
#include "common/clock.h"
#include "common/crypto.h"
#include "common/log.h"
#include "common/redis.h"
#include "common/seal.h"
#include "common/text.h"
#include "fcgi/config_internal.h"
#include "fcgi/provider.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#define ARENA_FIRST (64 * 1024)
#define ARENA_LIMIT (64 * 1024 * 1024)
#define WORKERS_MAX 56 /* all of them twice, during a reload, fit the 128 slots of supervisor.c */
#define IN_FLIGHT_MAX 65536
#define LIMIT_MAX 1000000
#define AUDIT_USES_MAX 10000000
#define KEYS_MEMORY (2 * 1024 * 1024) /* a file of 64 KiB twice, and two copies of 16 bytes for each line of one */
#define LOOK_AGAIN_MS 1000

static unsigned
cores(void)
{
	cpu_set_t set;
	int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;

	return count < 1 ? 1 : count > WORKERS_MAX ? WORKERS_MAX : (unsigned)count;
}

static void
read_public_url(struct config_reader *reader)
{
	struct config *config = reader->config;
	size_t before = reader->mistakes->count;
	const char *text = config_setting(reader, "PUBLIC_URL");

	if (text == NULL) {
		if (reader->need == CONFIG_ALL && reader->mistakes->count == before)
			config_mistake(reader, "PUBLIC_URL",
				       "is not set -> give the address of the site, such as https://app.example.com");
		return;
	}
	if (!url_parse(config->arena, text, &config->public_url))
		config_mistake(reader, "PUBLIC_URL",
			       "is not an address -> write it as https://app.example.com, in ASCII");
	else if (!text_equal(config->public_url.scheme, "https") && !url_is_loopback(&config->public_url))
		config_mistake(reader, "PUBLIC_URL", "is http -> use https; http is for a loopback host only");
	else if (!text_equal(config->public_url.path, "") && !text_equal(config->public_url.path, "/"))
		config_mistake(reader, "PUBLIC_URL", "has a path -> give scheme, host and port only");
}

static const char *
read_redis_url(struct config_reader *reader, const char *name, const char *fallback)
{
	const char *url = config_secret(reader, name);
	const char *mistake;

	if (url == NULL)
		return fallback;
	if (!redis_url_check(url, &mistake))
		config_mistake(reader, name, mistake);
	return url;
}

static void
read_redis(struct config_reader *reader)
{
	struct config *config = reader->config;

	config->redis_url = read_redis_url(reader, "REDIS_URL", "redis://127.0.0.1:6379/0");
	config->session_redis_url = read_redis_url(reader, "SESSION_REDIS_URL", config->redis_url);
	config->redis_admin_url = read_redis_url(reader, "REDIS_ADMIN_URL", config->redis_url);
}

static void
read_listen(struct config_reader *reader)
{
	const char *path = config_setting(reader, "LISTEN");

	reader->config->listen = path != NULL ? path : "/run/integrations/integrations.sock";
	if (strlen(reader->config->listen) >= sizeof((struct sockaddr_un *)0)->sun_path)
		config_mistake(reader, "LISTEN", "is too long for a socket -> use a path of at most 107 bytes");
}

static void
read_environment(struct config_reader *reader)
{
	const char *text = config_setting(reader, "ENVIRONMENT");

	reader->config->environment = text != NULL ? text : "production";
	if (text != NULL && (strlen(text) > 32 || text[strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-")] != '\0'))
		config_mistake(reader, "ENVIRONMENT", "is not a valid name -> use a to z, 0 to 9 and -, at most 32");
}

/* A cookie's name is a token (RFC 6265 4.1.1). */
static void
read_session_cookie(struct config_reader *reader)
{
	struct config *config = reader->config;
	const char *name = config_setting(reader, "SESSION_COOKIE");
	bool https = text_equal(config->public_url.scheme, "https");

	config->session_cookie = name != NULL ? name : https ? "__Host-session" : "session";
	if (name != NULL && (!text_is_visible(name) || strpbrk(name, "()<>@,;:\\\"/[]?={}") != NULL))
		config_mistake(reader, "SESSION_COOKIE",
			       "is not a valid name of a cookie -> use letters, digits, - and _");
}

static void
read_sign_in_url(struct config_reader *reader)
{
	const char *text = config_setting(reader, "SIGN_IN_URL");
	struct url url;
	bool is_path;

	if (text == NULL)
		return;
	reader->config->sign_in_url = text;
	is_path = text[0] == '/' && text[1] != '/' && text[1] != '\\' && text_is_visible(text);
	if (!is_path && !url_parse(reader->config->arena, text, &url))
		config_mistake(reader, "SIGN_IN_URL",
			       "is neither an address nor a path -> write https://login.example.com/ or /login");
}

/* The name that this setting has, or had: it allows private networks, too, which the old one did not say. */
static const char *
allow_private_name(struct config_reader *reader)
{
	static const char name[] = "PROVIDER_ALLOW_PRIVATE";
	static const char former[] = "PROVIDER_ALLOW_LOOPBACK";

	if (config_setting(reader, name) != NULL || config_setting(reader, former) == NULL)
		return name;
	log_message(LOG_LEVEL_WARN, "setting_renamed", "PROVIDER_ALLOW_LOOPBACK is called PROVIDER_ALLOW_PRIVATE now",
		    "write the new name; the old one is read for one more release");
	return former;
}

static void
read_provider_settings(struct config_reader *reader)
{
	struct config *config = reader->config;

	config->provider_ca_file = config_setting(reader, "PROVIDER_CA_FILE");
	if (config->provider_ca_file != NULL && access(config->provider_ca_file, R_OK) != 0)
		config_mistake(reader, "PROVIDER_CA_FILE", "cannot be read -> name a file of CA certificates in PEM");
	config->provider_allow_private = config_number(reader, allow_private_name(reader), 0, 0, 1) == 1;
}

static void
read_log_level(struct config_reader *reader)
{
	const char *text = config_setting(reader, "LOG_LEVEL");

	reader->config->log_level = LOG_LEVEL_INFO;
	if (text != NULL && !log_level_parse(text, &reader->config->log_level))
		config_mistake(reader, "LOG_LEVEL", "is unknown -> use error, warn, info or debug");
}

static void
read_keys(struct config_reader *reader)
{
	size_t before = reader->mistakes->count;
	const char *text = config_secret(reader, "TOKEN_KEYS");
	const char *mistake = NULL;

	if (text == NULL) {
		if (reader->mistakes->count > before)
			return;
		config_mistake(reader, "TOKEN_KEYS",
			       "is not set -> put a line of `integrations keys new` into a file and name it in "
			       "TOKEN_KEYS_FILE");
		return;
	}
	reader->config->keys = key_ring_open(reader->config->arena, text, &mistake);
	if (reader->config->keys == NULL)
		config_mistake(reader, "TOKEN_KEYS", mistake);
	if (config_setting(reader, "TOKEN_KEYS_FILE") == NULL)
		return;
	reader->config->keys_file = arena_alloc(reader->config->arena, sizeof *reader->config->keys_file);
	*reader->config->keys_file = (struct config_keys_file){.path = config_setting(reader, "TOKEN_KEYS_FILE")};
}

static void
read_sealing(struct config_reader *reader)
{
	struct config *config = reader->config;

	config->seal_second = config_number(reader, "SEAL_VERSION", 1, 1, 2) == 2;
	config->seal_accept_first = config_number(reader, "SEAL_ACCEPT_V1", 1, 0, 1) == 1;
	if (!config->seal_second && !config->seal_accept_first)
		config_mistake(reader, "SEAL_ACCEPT_V1",
			       "is 0 while tokens are written in that form -> set SEAL_VERSION=2, and 0 here after "
			       "`integrations keys rotate`");
}

static void
read_caller_mac(struct config_reader *reader)
{
	const char *text = config_setting(reader, "CALLER_MAC");

	reader->config->caller_mac_required = text_equal(text, "required");
	if (text != NULL && !text_equal(text, "required") && !text_equal(text, "optional"))
		config_mistake(reader, "CALLER_MAC", "is unknown -> use required or optional");
}

static void
read_all(struct config_reader *reader)
{
	struct config *config = reader->config;

	read_public_url(reader);
	read_redis(reader);
	read_listen(reader);
	config->workers = config_number(reader, "WORKERS", cores(), 1, WORKERS_MAX);
	config->max_in_flight = config_number(reader, "MAX_IN_FLIGHT", 768, 1, IN_FLIGHT_MAX);
	read_environment(reader);
	read_session_cookie(reader);
	read_sign_in_url(reader);
	read_provider_settings(reader);
	config->limit_auth_link = config_number(reader, "LIMIT_AUTH_LINK", 20, 0, LIMIT_MAX);
	config->limit_validate = config_number(reader, "LIMIT_VALIDATE", 20, 0, LIMIT_MAX);
	config->audit_uses = config_number(reader, "AUDIT_USES", 10000, 0, AUDIT_USES_MAX);
	read_log_level(reader);
	read_sealing(reader);
	read_caller_mac(reader);
	if (reader->need == CONFIG_ALL || reader->need == CONFIG_KEYS)
		config_read_providers(reader);
	if (reader->need != CONFIG_STORE)
		read_keys(reader);
}

static void
no_memory(void *arg)
{
	(void)arg;
	fprintf(stderr, "integrations: not enough memory to read the settings\n");
	exit(71);
}

struct config *
config_open(enum config_need need, struct config_mistakes *mistakes)
{
	struct arena *arena = arena_open(ARENA_FIRST, ARENA_LIMIT, no_memory, NULL);
	struct config_reader reader = {.need = need, .mistakes = mistakes};

	if (arena == NULL)
		no_memory(NULL);
	mistakes->count = 0;
	mistakes->used = 0;
	reader.config = arena_alloc(arena, sizeof *reader.config);
	reader.config->arena = arena;
	read_all(&reader);
	if (mistakes->count == 0)
		return reader.config;
	config_close(reader.config);
	return NULL;
}

void
config_close(struct config *config)
{
	if (config == NULL)
		return;
	if (config->keys != NULL)
		key_ring_close(config->keys);
	arena_close(config->arena);
}

bool
config_learn_key(const struct config *config, const char *id)
{
	struct config_keys_file *file = config->keys_file;
	int64_t now = clock_monotonic_ms();
	struct arena *arena;
	const char *mistake;
	const char *text;
	size_t len;

	if (file == NULL || id == NULL || key_ring_has(config->keys, id) ||
	    (file->looked_ms != 0 && now - file->looked_ms < LOOK_AGAIN_MS))
		return false;
	file->looked_ms = now;
	/* All at once: memory that is missing later would end the process, with all requests in flight. */
	arena = arena_open(KEYS_MEMORY, KEYS_MEMORY, no_memory, NULL);
	if (arena == NULL)
		return false;
	text = config_file(arena, file->path, true, &len, &mistake);
	if (text != NULL)
		key_ring_learn(arena, config->keys, arena_copy(arena, text, len));
	arena_close(arena);
	return key_ring_has(config->keys, id);
}

const struct provider *
config_provider(const struct config *config, const char *service)
{
	for (size_t i = 0; i < config->provider_count; i++) {
		if (text_equal(config->providers[i]->service, service))
			return config->providers[i];
	}
	return NULL;
}
