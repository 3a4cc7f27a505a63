#!/bin/bash
# Runs both commands, deploy/run.sh and tests/run.sh, in a bare Debian 12 that debootstrap makes, with git and nothing else
# installed before. Needs root and debootstrap; takes its mirror and its proxy from this machine's apt. The bare system is
# kept as build/fresh/base.tar. What is tested is the last commit, not the work tree.
set -euo pipefail

cd "$(dirname "$(readlink -f "$0")")/../.."
# shellcheck source=tests/tools/bare.sh
. tests/tools/bare.sh

system=$(mktemp -d "${TMPDIR:-/tmp}/integrations-fresh.XXXXXX")
running=
cleanup() {
	local mounted
	if [ -n "$running" ]; then
		kill -TERM "$running"
		wait "$running"
	fi
	# The innermost first.
	awk -v root="$system/" 'index($2, root) == 1 { print $2 }' /proc/mounts | sort -r | while read -r mounted; do
		umount -l "$mounted"
	done
	rm -rf --one-file-system "$system"
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

unpack_bare "$system"
mount -t proc proc "$system/proc"
mount --rbind /sys "$system/sys"
mount --make-rslave "$system/sys"
mount --rbind /dev "$system/dev"
mount --make-rslave "$system/dev"
mkdir "$system/source"
mount --bind "$checkout" "$system/source"
mount -o remount,bind,ro "$system/source"

# Everything in it is started by this, the program itself without a shell between, so that its pid is ours to end.
enter=(chroot "$system" /usr/bin/env -i "${inside_environment[@]}")

"${enter[@]}" update-ca-certificates >/dev/null 2>&1 || true
"${enter[@]}" git -c safe.directory='*' clone -q file:///source /srv/integrations

free_port() {
	/usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}
enter+=("PORT=$(free_port)" "INTERNAL_PORT=$(free_port)")

# served NAME: run.sh until it is ready; the page behind the link; the end.
served() {
	local log=$logs/$1.log begun=$SECONDS link pid
	"${enter[@]}" /srv/integrations/deploy/run.sh >"$log" 2>&1 &
	pid=$!
	running=$pid
	until grep -q '^Ready: ' "$log"; do
		kill -0 $pid 2>/dev/null || { tail -n 40 "$log"; fail "run.sh ended: see $log"; }
		[ $((SECONDS - begun)) -lt 900 ] || fail "run.sh is not ready after 15 minutes: see $log"
		sleep 0.2
	done
	echo "$1: ready after $((SECONDS - begun)) s"
	link=$(sed -n 's/^Ready: //p' "$log")
	"${enter[@]}" /usr/bin/python3 - "$link" <<'PYTHON' || fail "the demo does not work: $link"
import json, sys, urllib.request, http.cookiejar
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}),
                                     urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
page = opener.open(sys.argv[1], timeout=10)
assert page.url.endswith("/integrations"), page.url
assert "<title>Integrations</title>" in page.read().decode()
me = json.load(opener.open(page.url.replace("/integrations", "/api/me"), timeout=10))
assert me["user_id"] == "ada", me
PYTHON
	kill -TERM $pid
	running=
	wait $pid || fail "run.sh ended with status $?: see $log"
}

served first-run
served second-run

echo "Running tests/run.sh: $logs/tests.log"
status=0
"${enter[@]}" /srv/integrations/tests/run.sh >"$logs/tests.log" 2>&1 || status=$?
grep -E '^[a-z-]+ +[0-9]+ passed' "$logs/tests.log" || true
tail -n 1 "$logs/tests.log"
exit $status
