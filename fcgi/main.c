/* The table of commands. */
#include "fcgi/cmd.h"
#include "fcgi/store.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#define VERSION "0.1.0"

static int cmd_version(int argc, char **argv);

static const struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *arguments;
	const char *does;
} commands[] = {
    {"serve", cmd_serve, "",
     "serve requests in the foreground until SIGTERM; SIGHUP reads the files of secrets and providers again"},
    {"check", cmd_check, "", "check settings, Redis and providers; print the redirect URIs to register"},
    {"session", cmd_session,
     "create --user U --org O[:role] [--org ...] [--ttl 8h] [--email E] [--name N] [--use gateway --mcps \"gmail "
     "...\" [--agent A]]",
     "store a session and print its token on the last line"},
    {"session", cmd_session, "revoke -", "end the session whose token is on standard input"},
    {"caller", cmd_caller, "create --name N --mcps \"gmail ...\" --orgs \"acme ...\" [--ttl 90d]",
     "store a caller and print its key on the last line"},
    {"caller", cmd_caller, "revoke --name N", "revoke every key of a caller"},
    {"caller", cmd_caller, "list", "show all callers"},
    {"caller", cmd_caller, "sign", "show the callers without a MAC, ask, and sign them"},
    {"keys", cmd_keys, "new", "print a new line for the key ring TOKEN_KEYS"},
    {"keys", cmd_keys, "rotate", "seal every stored credential anew under the first key, while serving"},
    {"list", cmd_list, "--org O [--user U] [--json]", "show an organization's connections with their status"},
    {"events", cmd_events, "--org O [--follow]", "show the audit streams"},
    {"remove", cmd_remove, "--org O [--user U]", "bar members, forget their connections and revoke them"},
    {"restore", cmd_restore, "--org O --user U", "let a removed member connect again"},
    {"version", cmd_version, "", "print the version"},
};

#define COMMAND_COUNT (sizeof commands / sizeof *commands)

static void
print_usage(FILE *out)
{
	fprintf(out, "Usage:\n");
	for (size_t i = 0; i < COMMAND_COUNT; i++) {
		const struct command *command = &commands[i];

		fprintf(out, "  integrations %s%s%s\n        %s\n", command->name,
			command->arguments[0] != '\0' ? " " : "", command->arguments, command->does);
	}
	fprintf(out, "Settings come from the environment; SETTINGS.md lists them. No secret is ever an argument.\n");
}

static int
cmd_version(int argc, char **argv)
{
	if (argc > 1)
		return cmd_usage("version", "takes no arguments, but got \"%s\"", argv[1]);
	printf("integrations %s\n", VERSION);
	return CMD_OK;
}

static int
run_command(int argc, char **argv)
{
	for (size_t i = 0; i < COMMAND_COUNT; i++) {
		if (strcmp(argv[0], commands[i].name) == 0)
			return commands[i].run(argc, argv);
	}
	fprintf(stderr, "integrations: \"%s\" is not a command\n", argv[0]);
	print_usage(stderr);
	return CMD_USAGE;
}

int
main(int argc, char **argv)
{
	int status;

	if (argc < 2) {
		print_usage(stderr);
		return CMD_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
		print_usage(stdout);
		return CMD_OK;
	}
	signal(SIGPIPE, SIG_IGN);
	store_prepare();
	status = run_command(argc - 1, argv + 1);
	if (fflush(stdout) != 0 && status == CMD_OK)
		status = CMD_FAILED;
	return status;
}
