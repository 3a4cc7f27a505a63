#!/bin/bash
# Installs the service as deploy/README.md says on a machine of its own, a bare Debian 12 that systemd has booted (in a container:
# systemd-nspawn), with Debian's nginx and Redis, and tests it there; then boots the machine anew and looks again. Needs root,
# debootstrap and systemd-container. What is tested is the last commit, not the work tree.
set -euo pipefail

cd "$(dirname "$(readlink -f "$0")")/../.."
# shellcheck source=tests/tools/bare.sh
. tests/tools/bare.sh
# shellcheck source=deploy/packages.sh
. deploy/packages.sh

command -v systemd-nspawn >/dev/null || fail "needs systemd-nspawn: apt-get install systemd-container"
system=$(mktemp -d "${TMPDIR:-/tmp}/integrations-booted.XXXXXX")
machine=
cleanup() {
	if [ -n "$machine" ]; then
		kill -TERM "$machine" 2>/dev/null || true # it shuts the machine down
		wait "$machine" || true
	fi
	rm -rf --one-file-system "$system"
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

unpack_bare "$system"
echo "Installing packages"
# Without a boot, and on this machine's network.
systemd-nspawn -q -D "$system" --register=no --keep-unit --bind-ro="$checkout:/source" --pipe \
	/usr/bin/env -i DEBIAN_FRONTEND=noninteractive "${inside_environment[@]}" /bin/bash -euc '
		update-ca-certificates
		apt-get -q update
		apt-get -q -y --no-install-recommends install systemd systemd-sysv dbus curl openssl procps "$@"
		git -c safe.directory="*" clone -q file:///source /srv/integrations
	' bash "${PRODUCT_PACKAGES[@]}" python3-pytest python3-redis python3-requests >"$logs/booted-packages.log" 2>&1 ||
	fail "installing the packages failed: see $logs/booted-packages.log"

# inside COMMAND...: in the machine, once it is up.
first=
inside() { nsenter -t "$first" -a /usr/bin/env -i "${inside_environment[@]}" "$@"; }

# A network of its own, where nobody else has the ports; Landlock is not in what nspawn lets pass by itself.
boot() {
	local begun=$SECONDS
	systemd-nspawn -q -D "$system" -b --register=no --keep-unit --private-network --machine=integrations-booted --console=pipe \
		--system-call-filter="landlock_create_ruleset landlock_add_rule landlock_restrict_self" \
		>"$logs/booted-console.log" 2>&1 </dev/null &
	machine=$!
	until first=$(pgrep -P "$machine" -x systemd) && [ "$(inside systemctl is-system-running 2>/dev/null)" = running ]; do
		kill -0 "$machine" || fail "the machine is gone: see $logs/booted-console.log"
		[ $((SECONDS - begun)) -lt 60 ] || { inside systemctl --no-pager list-jobs || true; fail "the machine does not come up"; }
		sleep 0.1
	done
}

# tests FILE
tests() {
	echo "Running $1"
	inside /usr/bin/python3 -B -m pytest -q -p no:cacheprovider --tb=short "/srv/integrations/tests/booted/$1" || {
		inside journalctl --no-pager -u integrations -u nginx -u redis-server >"$logs/booted-journal.log"
		fail "$1 failed; the machine's journal is $logs/booted-journal.log"
	}
}

boot
echo "Installing the service"
inside /srv/integrations/tests/booted/site.sh >"$logs/booted-site.log" 2>&1 || { tail -n 20 "$logs/booted-site.log" >&2; fail "the steps of deploy/README.md failed"; }
tests test_installed.py
inside systemctl poweroff
wait "$machine" || true
boot
tests test_after_boot.py
