/* Settings: defaults, files of secrets, and a table of mistakes; each test sets its whole environment. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/seal.h"
#include "fcgi/config.h"
#include "fcgi/provider.h"

#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LENGTH(table) (sizeof(table) / sizeof(table)[0])
#define KEY "k1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
#define SECRET "stand-in-secret-MARKER-unit"
#define PROVIDER(name, mcp)                                                                                            \
	"{\"name\":\"" name                                                                                            \
	"\",\"issuer\":\"https://id.example\",\"authorization_endpoint\":\"https://id.example/a\","                    \
	"\"token_endpoint\":\"https://id.example/t\",\"userinfo_endpoint\":\"https://id.example/u\","                  \
	"\"mcps\":[{\"mcp\":\"" mcp "\",\"name\":\"M\",\"scopes\":[\"s\"]}]}"

static char directory[PATH_MAX];

static const char *
path(const char *name)
{
	static char paths[4][PATH_MAX];
	static size_t next;
	char *out = paths[next++ % LENGTH(paths)];

	snprintf(out, PATH_MAX, "%.2000s/%.2000s", directory, name);
	return out;
}

static void
write_file(const char *name, const char *text, mode_t mode)
{
	FILE *file = fopen(path(name), "w");

	assert_non_null(file);
	fputs(text, file);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(chmod(path(name), mode), 0);
}

static int
remove_one(const char *name, const struct stat *status, int type, struct FTW *walk)
{
	(void)status;
	(void)type;
	(void)walk;
	return remove(name);
}

/* A complete, right environment and its files. */
static int
prepare(void **state)
{
	(void)state;
	snprintf(directory, sizeof directory, "%s/config.XXXXXX", getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp");
	if (mkdtemp(directory) == NULL || mkdir(path("providers"), 0700) != 0)
		return -1;
	write_file("providers/google.json", PROVIDER("Google", "gmail"), 0644);
	write_file("keys", KEY "\n", 0600);
	write_file("secret", SECRET "\n", 0600);
	clearenv();
	setenv("PUBLIC_URL", "https://app.example.com", 1);
	setenv("PROVIDERS_DIR", path("providers"), 1);
	setenv("GOOGLE_CLIENT_ID", "client-1", 1);
	setenv("GOOGLE_CLIENT_SECRET_FILE", path("secret"), 1);
	setenv("TOKEN_KEYS_FILE", path("keys"), 1);
	return 0;
}

static int
clean(void **state)
{
	(void)state;
	return nftw(directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static struct config *
good(enum config_need need)
{
	struct config_mistakes mistakes;
	struct config *config = config_open(need, &mistakes);

	if (config == NULL)
		fail_msg("%s", mistakes.text[0]);
	return config;
}

/* There is exactly one mistake, and it begins with `says`. */
static void
assert_mistake(enum config_need need, const char *says)
{
	struct config_mistakes mistakes;
	struct config *config = config_open(need, &mistakes);

	assert_null(config);
	assert_int_equal(mistakes.count, 1);
	if (strncmp(mistakes.text[0], says, strlen(says)) != 0)
		fail_msg("\"%s\" does not begin with \"%s\"", mistakes.text[0], says);
	assert_null(strstr(mistakes.text[0], "MARKER"));
}

static void
fills_in_defaults(void **state)
{
	(void)state;
	struct config *config = good(CONFIG_ALL);
	const struct provider *provider = config_provider(config, "google");

	assert_string_equal(config->public_url.origin, "https://app.example.com");
	assert_string_equal(config->redis_url, "redis://127.0.0.1:6379/0");
	assert_string_equal(config->session_redis_url, config->redis_url);
	assert_string_equal(config->redis_admin_url, config->redis_url);
	assert_string_equal(config->listen, "/run/integrations/integrations.sock");
	assert_in_range(config->workers, 1, 256);
	assert_int_equal(config->max_in_flight, 768);
	assert_string_equal(config->environment, "production");
	assert_string_equal(config->session_cookie, "__Host-session");
	assert_null(config->sign_in_url);
	assert_null(config->provider_ca_file);
	assert_false(config->provider_allow_private);
	assert_false(config->seal_second);
	assert_true(config->seal_accept_first);
	assert_false(config->caller_mac_required);
	assert_int_equal(config->limit_auth_link, 20);
	assert_int_equal(config->limit_validate, 20);
	assert_int_equal(config->log_level, LOG_LEVEL_INFO);
	assert_string_equal(key_ring_first(config->keys), "k1");
	assert_non_null(provider);
	assert_string_equal(provider->client.id, "client-1");
	assert_string_equal(provider->client.secret, SECRET);
	assert_string_equal(provider->redirect_uri, "https://app.example.com/integrations/google/callback");
	assert_null(config_provider(config, "other"));
	config_close(config);
}

static void
reads_what_is_set(void **state)
{
	(void)state;
	setenv("PUBLIC_URL", "http://localhost:8080/", 1);
	setenv("REDIS_URL", "unix:///run/redis.sock", 1);
	setenv("SESSION_REDIS_URL", "redis://u:p@sessions.example:6380/3", 1);
	setenv("WORKERS", "3", 1);
	setenv("LIMIT_VALIDATE", "0", 1);
	setenv("ENVIRONMENT", "demo-1", 1);
	setenv("SIGN_IN_URL", "/login?next=", 1);
	setenv("LOG_LEVEL", "debug", 1);
	setenv("PROVIDER_ALLOW_PRIVATE", "1", 1);
	setenv("LISTEN", "", 1); /* empty: not set */
	struct config *config = good(CONFIG_ALL);

	assert_string_equal(config->public_url.authority, "localhost:8080");
	assert_string_equal(config->session_cookie, "session");
	assert_string_equal(config->redis_admin_url, "unix:///run/redis.sock");
	assert_string_equal(config->session_redis_url, "redis://u:p@sessions.example:6380/3");
	assert_int_equal(config->workers, 3);
	assert_int_equal(config->limit_validate, 0);
	assert_string_equal(config->environment, "demo-1");
	assert_string_equal(config->sign_in_url, "/login?next=");
	assert_int_equal(config->log_level, LOG_LEVEL_DEBUG);
	assert_true(config->provider_allow_private);
	assert_string_equal(config->listen, "/run/integrations/integrations.sock");
	assert_string_equal(config->providers[0]->redirect_uri, "http://localhost:8080/integrations/google/callback");
	config_close(config);
}

/* Settings files of the version before. */
static void
reads_a_former_name(void **state)
{
	struct config *config;

	(void)state;
	setenv("PROVIDER_ALLOW_LOOPBACK", "1", 1);
	config = good(CONFIG_ALL);
	assert_true(config->provider_allow_private);
	config_close(config);
	setenv("PROVIDER_ALLOW_PRIVATE", "0", 1);
	config = good(CONFIG_ALL);
	assert_false(config->provider_allow_private);
	config_close(config);
}

static void
names_each_mistake(void **state)
{
	(void)state;
	static const struct {
		const char *name;
		const char *value; /* NULL: unset */
	} rows[] = {
	    {"PUBLIC_URL", NULL},
	    {"PUBLIC_URL", ""},
	    {"PUBLIC_URL", "app.example.com"},
	    {"PUBLIC_URL", "http://app.example.com"},
	    {"PUBLIC_URL", "https://app.example.com/app"},
	    {"PUBLIC_URL", "https://user@app.example.com"},
	    {"PUBLIC_URL", "https://app.example.com\xff"},
	    {"REDIS_URL", "localhost:6379"},
	    {"REDIS_URL", "redis+sentinel://a:1,b:2/main/0"},
	    {"REDIS_URL", "redis+cluster://a:1,b:2"},
	    {"SESSION_REDIS_URL", "http://x"},
	    {"REDIS_ADMIN_URL", "redis://u:MARKER@host:99999/0"},
	    {"SEAL_VERSION", "0"},
	    {"SEAL_VERSION", "3"},
	    {"SEAL_ACCEPT_V1", "0"},
	    {"SEAL_ACCEPT_V1", "2"},
	    {"CALLER_MAC", "1"},
	    {"CALLER_MAC", "Required"},
	    {"WORKERS", "0"},
	    {"WORKERS", "four"},
	    {"WORKERS", "-1"},
	    {"WORKERS", "257"},
	    {"MAX_IN_FLIGHT", "0"},
	    {"ENVIRONMENT", "Prod"},
	    {"ENVIRONMENT", "a23456789012345678901234567890123"},
	    {"PROVIDERS_DIR", "/nonexistent/integrations"},
	    {"GOOGLE_CLIENT_ID", NULL},
	    {"GOOGLE_CLIENT_ID", ""},
	    {"GOOGLE_CLIENT_ID", "a\tb"},
	    {"GOOGLE_CLIENT_SECRET", "stand-in-secret-MARKER-both"},
	    {"GOOGLE_CLIENT_SECRET_FILE", NULL},
	    {"GOOGLE_CLIENT_SECRET_FILE", "/nonexistent/secret"},
	    {"TOKEN_KEYS", KEY},
	    {"TOKEN_KEYS_FILE", NULL},
	    {"TOKEN_KEYS_FILE", "/nonexistent/keys"},
	    {"TOKEN_KEYS_FILE", "/tmp"},
	    {"SESSION_COOKIE", "a b"},
	    {"SESSION_COOKIE", "a=b"},
	    {"SIGN_IN_URL", "login"},
	    {"SIGN_IN_URL", "//evil.example"},
	    {"SIGN_IN_URL", "javascript:alert(1)"},
	    {"PROVIDER_CA_FILE", "/nonexistent/ca.pem"},
	    {"PROVIDER_ALLOW_PRIVATE", "yes"},
	    {"LIMIT_AUTH_LINK", "many"},
	    {"LIMIT_VALIDATE", "-1"},
	    {"LOG_LEVEL", "loud"},
	};

	for (size_t i = 0; i < LENGTH(rows); i++) {
		char says[64];

		if (rows[i].value == NULL)
			unsetenv(rows[i].name);
		else
			setenv(rows[i].name, rows[i].value, 1);
		/* A missing file of a secret is a missing secret. */
		snprintf(says, sizeof says, "%s", rows[i].name);
		if (rows[i].value == NULL && strlen(says) > 5 && strcmp(says + strlen(says) - 5, "_FILE") == 0)
			says[strlen(says) - 5] = '\0';
		strncat(says, ": ", sizeof says - strlen(says) - 1);
		assert_mistake(CONFIG_ALL, says);
		assert_int_equal(clean(NULL), 0);
		assert_int_equal(prepare(NULL), 0);
	}
}

static void
finds_all_mistakes_at_once(void **state)
{
	(void)state;
	struct config_mistakes mistakes;

	clearenv();
	setenv("PROVIDERS_DIR", path("providers"), 1);
	setenv("WORKERS", "x", 1);
	setenv("LOG_LEVEL", "x", 1);
	assert_null(config_open(CONFIG_ALL, &mistakes));
	assert_int_equal(mistakes.count, 6); /* and PUBLIC_URL, client id and secret, TOKEN_KEYS */
}

static void
reads_secrets_from_files(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		mode_t mode;
		const char *value; /* NULL: a mistake */
	} rows[] = {
	    {SECRET, 0400, SECRET},
	    {SECRET "\n", 0640, SECRET},
	    {SECRET "\r\n", 0600, SECRET},
	    {SECRET "\n\n", 0600, NULL},
	    {"", 0600, NULL},
	    {"\n", 0600, NULL},
	    {SECRET "\n", 0644, NULL},
	    {SECRET "\n", 0602, NULL},
	    {SECRET "\n", 0601, NULL},
	    {SECRET "\nMARKER", 0600, NULL},
	};

	for (size_t i = 0; i < LENGTH(rows); i++) {
		write_file("secret", rows[i].text, rows[i].mode);
		if (rows[i].value == NULL) {
			assert_mistake(CONFIG_ALL, "GOOGLE_CLIENT_SECRET");
			continue;
		}
		struct config *config = good(CONFIG_ALL);
		assert_string_equal(config->providers[0]->client.secret, rows[i].value);
		config_close(config);
	}
}

static void
names_the_file_of_a_provider_mistake(void **state)
{
	(void)state;
	write_file("providers/google.json", "{\"name\":\"Google\"}", 0644);
	assert_mistake(CONFIG_ALL, "PROVIDERS_DIR: google.json: `issuer` is missing");
	write_file("providers/google.json", PROVIDER("Google", "gmail"), 0644);
	write_file("providers/Other.json", PROVIDER("Other", "other"), 0644);
	assert_mistake(CONFIG_ALL, "PROVIDERS_DIR: Other.json is not a valid name");
	assert_int_equal(unlink(path("providers/Other.json")), 0);
	assert_int_equal(unlink(path("providers/google.json")), 0);
	assert_mistake(CONFIG_ALL, "PROVIDERS_DIR: holds no");
}

static void
sorts_providers(void **state)
{
	(void)state;
	write_file("providers/acme_mail.json", PROVIDER("Acme", "acme_mail"), 0644);
	write_file("providers/README", "not a provider", 0644);
	write_file("providers/.hidden.json", "not a provider", 0644);
	setenv("ACME_MAIL_CLIENT_ID", "client-2", 1);
	setenv("ACME_MAIL_CLIENT_SECRET", SECRET, 1);
	struct config *config = good(CONFIG_ALL);

	assert_int_equal(config->provider_count, 2);
	assert_string_equal(config->providers[0]->service, "acme_mail");
	assert_string_equal(config->providers[1]->service, "google");
	assert_string_equal(config_provider(config, "acme_mail")->client.id, "client-2");
	config_close(config);
	write_file("providers/acme_mail.json", PROVIDER("Acme", "gmail"), 0644);
	assert_mistake(CONFIG_ALL, "PROVIDERS_DIR: acme_mail.json and google.json both have the MCP gmail");
}

/* What a command does not need may be missing, but not wrong. */
static void
asks_only_for_what_is_needed(void **state)
{
	(void)state;
	clearenv();
	config_close(good(CONFIG_STORE));
	setenv("PUBLIC_URL", "app.example.com", 1);
	assert_mistake(CONFIG_STORE, "PUBLIC_URL: ");
	prepare(NULL);
	unsetenv("PUBLIC_URL");
	struct config *config = good(CONFIG_KEYS);
	assert_null(config->providers[0]->redirect_uri);
	config_close(config);
	unsetenv("GOOGLE_CLIENT_ID");
	config = good(CONFIG_RING);
	assert_string_equal(key_ring_first(config->keys), "k1");
	config_close(config);
	setenv("GOOGLE_CLIENT_ID", "client-1", 1);
	unsetenv("TOKEN_KEYS_FILE");
	assert_mistake(CONFIG_KEYS, "TOKEN_KEYS: ");
	assert_mistake(CONFIG_RING, "TOKEN_KEYS: ");
}

static void
scrubs_the_environment(void **state)
{
	(void)state;
	char *value;

	setenv("TOKEN_KEYS", KEY, 1);
	setenv("REDIS_URL", "redis://u:MARKER@h:1/0", 1);
	setenv("GOOGLE_CLIENT_SECRET", SECRET, 1);
	value = getenv("GOOGLE_CLIENT_SECRET");
	config_scrub_environment();
	assert_string_equal(value, "");
	assert_null(getenv("TOKEN_KEYS"));
	assert_null(getenv("REDIS_URL"));
	assert_null(getenv("GOOGLE_CLIENT_SECRET"));
	assert_string_equal(getenv("GOOGLE_CLIENT_ID"), "client-1");
	assert_string_equal(getenv("PUBLIC_URL"), "https://app.example.com");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(fills_in_defaults, prepare, clean),
	    cmocka_unit_test_setup_teardown(reads_what_is_set, prepare, clean),
	    cmocka_unit_test_setup_teardown(reads_a_former_name, prepare, clean),
	    cmocka_unit_test_setup_teardown(names_each_mistake, prepare, clean),
	    cmocka_unit_test_setup_teardown(finds_all_mistakes_at_once, prepare, clean),
	    cmocka_unit_test_setup_teardown(reads_secrets_from_files, prepare, clean),
	    cmocka_unit_test_setup_teardown(names_the_file_of_a_provider_mistake, prepare, clean),
	    cmocka_unit_test_setup_teardown(sorts_providers, prepare, clean),
	    cmocka_unit_test_setup_teardown(asks_only_for_what_is_needed, prepare, clean),
	    cmocka_unit_test_setup_teardown(scrubs_the_environment, prepare, clean),
	};

	return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
