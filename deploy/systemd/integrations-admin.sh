#!/bin/sh
# Runs a command with the settings of the installed service, and with the rights of the commands in Redis:
#   integrations-admin check
# A command needs no rights on this machine: called by root, it runs as the system user integrations-admin, where there is one.
set -eu

settings=@SYSCONFDIR@/integrations
if [ "$(id -u)" = 0 ] && id integrations-admin >/dev/null 2>&1; then
	exec setpriv --reuid=integrations-admin --regid=integrations-admin --init-groups --no-new-privs -- "$0" "$@"
fi
export PROVIDERS_DIR="$settings/providers"
set -a
# shellcheck source=/dev/null
. "$settings/integrations.env"
# shellcheck source=/dev/null
. "$settings/admin.env"
exec @PREFIX@/bin/integrations "$@"
