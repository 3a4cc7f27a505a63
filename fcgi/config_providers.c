/*
 * PROVIDERS_DIR: each NAME.json enables the service NAME; its client id and secret are NAME_CLIENT_ID and
 * NAME_CLIENT_SECRET in upper case. What is no .json file is left alone (notes, editors' copies), but a .json file that
 * cannot be used is a mistake: the operator meant to enable it.
 */
#include "fcgi/config_internal.h"

#include "common/arena.h"
#include "common/text.h"
#include "fcgi/provider.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PROVIDERS_MAX 256
#define SUFFIX ".json"

static const char *
variable(struct arena *arena, const char *service, const char *suffix)
{
	char *name = arena_format(arena, "%s_%s", service, suffix);

	for (char *c = name; *c != '\0'; c++)
		*c = (char)toupper((unsigned char)*c);
	return name;
}

/* RFC 6749 appendix A.1 and A.2: printable ASCII. */
static bool
is_printable(const char *text)
{
	for (; *text != '\0'; text++) {
		if (*text < 0x20 || *text > 0x7e)
			return false;
	}
	return true;
}

static const char *
read_client_value(struct config_reader *reader, const char *service, const char *suffix, bool secret)
{
	struct arena *arena = reader->config->arena;
	const char *name = variable(arena, service, suffix);
	size_t before = reader->mistakes->count;
	const char *value = secret ? config_secret(reader, name) : config_setting(reader, name);

	if (value == NULL && reader->mistakes->count == before)
		config_mistake(reader, name, "is not set -> copy it from the provider's console");
	if (value != NULL && !is_printable(value))
		config_mistake(reader, name, "holds a byte that is not printable ASCII -> copy it anew");
	return value;
}

/* What the settings say of a service; `provider` is NULL where its file has mistakes, for these are told all the same.
 */
static void
read_client(struct config_reader *reader, const char *service, struct provider *provider)
{
	struct config *config = reader->config;
	const char *id = read_client_value(reader, service, "CLIENT_ID", false);
	const char *secret = read_client_value(reader, service, "CLIENT_SECRET", true);

	if (provider == NULL)
		return;
	provider->client.id = id;
	provider->client.secret = secret;
	if (config->public_url.origin != NULL)
		provider->redirect_uri = arena_format(config->arena, "%s/integrations/%s/callback",
						      config->public_url.origin, provider->service);
}

/* The service that a directory entry enables, or NULL. */
static const char *
service_of(struct config_reader *reader, const char *file)
{
	size_t len = strlen(file);
	const char *service;

	if (file[0] == '.' || len <= strlen(SUFFIX) || !text_equal(file + len - strlen(SUFFIX), SUFFIX))
		return NULL;
	service = arena_copy(reader->config->arena, file, len - strlen(SUFFIX));
	if (text_is_name(service))
		return service;
	config_mistake(reader, "PROVIDERS_DIR",
		       arena_format(reader->config->arena,
				    "%s is not a valid name of a service -> use a to z, 0 to 9 and _, a letter first",
				    file));
	return NULL;
}

static void
read_provider(struct config_reader *reader, const char *service)
{
	struct config *config = reader->config;
	const char *path = arena_format(config->arena, "%s/%s%s", config->providers_dir, service, SUFFIX);
	const char *mistake = NULL;
	struct provider *provider = NULL;
	size_t len;
	const char *text = config_file(config->arena, path, false, &len, &mistake);

	if (text != NULL)
		provider = provider_parse(config->arena, service, text, len, config->provider_allow_private, &mistake);
	if (provider == NULL)
		config_mistake(reader, "PROVIDERS_DIR",
			       arena_format(config->arena, "%s%s: %s", service, SUFFIX, mistake));
	else
		config->providers[config->provider_count++] = provider;
	read_client(reader, service, provider);
}

/* The services of the directory, sorted: *count of them. */
static const char **
list_services(struct config_reader *reader, DIR *directory, size_t *count)
{
	const char **services = arena_alloc(reader->config->arena, PROVIDERS_MAX * sizeof *services);
	const struct dirent *entry;

	*count = 0;
	while ((entry = readdir(directory)) != NULL) {
		const char *service = service_of(reader, entry->d_name);

		if (service != NULL && *count < PROVIDERS_MAX)
			services[(*count)++] = service;
	}
	qsort(services, *count, sizeof *services, text_compare);
	return services;
}

/* The gateway finds an MCP by its name alone. */
static void
check_mcps(struct config_reader *reader, const struct provider *provider, const struct provider *other)
{
	for (size_t i = 0; i < provider->mcp_count; i++) {
		for (size_t j = 0; j < other->mcp_count; j++) {
			if (text_equal(provider->mcps[i].mcp, other->mcps[j].mcp))
				config_mistake(reader, "PROVIDERS_DIR",
					       arena_format(reader->config->arena,
							    "%s.json and %s.json both have the MCP %s -> rename one",
							    other->service, provider->service, provider->mcps[i].mcp));
		}
	}
}

void
config_read_providers(struct config_reader *reader)
{
	struct config *config = reader->config;
	const char *path = config_setting(reader, "PROVIDERS_DIR");
	const char **services;
	size_t count;
	DIR *directory;

	config->providers_dir = path != NULL ? path : "/etc/integrations/providers";
	directory = opendir(config->providers_dir);
	if (directory == NULL) {
		config_mistake(reader, "PROVIDERS_DIR",
			       arena_format(config->arena,
					    "cannot be opened: %s -> name the directory of the provider "
					    "files",
					    strerror(errno)));
		return;
	}
	services = list_services(reader, directory, &count);
	closedir(directory);
	config->providers = arena_alloc(config->arena, (count + 1) * sizeof *config->providers);
	for (size_t i = 0; i < count; i++)
		read_provider(reader, services[i]);
	if (count == 0)
		config_mistake(reader, "PROVIDERS_DIR", "holds no NAME.json -> put one in for each provider");
	for (size_t i = 0; i < config->provider_count; i++) {
		for (size_t j = 0; j < i; j++)
			check_mcps(reader, config->providers[i], config->providers[j]);
	}
}
