#!/bin/bash
# Serves the whole product on http://localhost:8080 (PORT), with a Redis, an nginx and a stand-in Google of its own, or
# with the real Google where GOOGLE_CLIENT_ID and GOOGLE_CLIENT_SECRET are set. Installs and builds what is missing.
# All files are in RUN_DIR (.run in the checkout). Any setting of deploy/SETTINGS.md that is set wins over the demo's own.
set -uo pipefail

checkout=$(cd "$(dirname "$(readlink -f "$0")")/.." && pwd)
RUN_DIR=$(realpath -m "${RUN_DIR:-$checkout/.run}")
PORT=${PORT:-8080}
INTERNAL_PORT=${INTERNAL_PORT:-8081}
program=$checkout/build/integrations

fail() {
	echo "run.sh: $1" >&2
	exit 1
}

cd "$checkout" || exit 1
# shellcheck source=deploy/packages.sh
. deploy/packages.sh

# ---- before anything is started

for name in PORT INTERNAL_PORT; do
	if ! [[ ${!name} =~ ^[1-9][0-9]{0,4}$ ]] || [ "${!name}" -gt 65535 ]; then
		fail "$name is ${!name}: give a port number"
	fi
done
[ "$PORT" != "$INTERNAL_PORT" ] || fail "PORT and INTERNAL_PORT are both $PORT: give two"
[ ${#RUN_DIR} -le 80 ] || fail "RUN_DIR is too long for the sockets in it: choose a path of at most 80 characters"
[[ $RUN_DIR =~ ^[A-Za-z0-9/._@%+-]+$ ]] || fail "RUN_DIR, $RUN_DIR, holds a character that nginx would not take: choose another"
[[ $checkout =~ ^[A-Za-z0-9/._@%+-]+$ ]] || fail "the checkout's path, $checkout, holds a character that nginx would not take: move it"

port_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
for name in PORT INTERNAL_PORT; do
	port_taken "${!name}" &&
		fail "port ${!name} is taken: end what listens there ('ss -ltnp' names it), or set $name to another"
done

# What is in it is changed and removed, so it is one that run.sh made, or an empty one.
[ -z "$(ls -A "$RUN_DIR" 2>/dev/null)" ] || [ -f "$RUN_DIR/run.sh.lock" ] ||
	fail "RUN_DIR, $RUN_DIR, holds files that are not run.sh's: name another directory, or empty this one"
if ! mkdir -p "$RUN_DIR" || ! chmod 700 "$RUN_DIR" || ! exec 9>"$RUN_DIR/run.sh.lock"; then
	fail "cannot write to RUN_DIR, $RUN_DIR"
fi
flock -n 9 || fail "$RUN_DIR is in use by another run.sh: end that one, or set RUN_DIR"

install_packages "$RUN_DIR/packages.log" "${PRODUCT_PACKAGES[@]}" || exit 1
build "$RUN_DIR/build.log" "Building" || exit 1

# ---- what is started, and how it ends

declare -A pids=()
started=()

# start NAME COMMAND...: in a session of its own, so that Ctrl-C reaches it through us, in order.
start() {
	local name=$1
	shift
	setsid "$@" </dev/null >>"$RUN_DIR/$name.log" 2>&1 9>&- &
	pids[$name]=$!
	started+=("$name")
}

stop() {
	local name=$1 pid=${pids[$1]:-} tries
	[ -n "$pid" ] || return 0
	kill -TERM "$pid" 2>/dev/null
	for ((tries = 0; tries < 300; tries++)); do
		kill -0 "$pid" 2>/dev/null || break
		sleep 0.1
	done
	kill -KILL "$pid" 2>/dev/null && echo "run.sh: $name did not end by itself" >&2
	wait "$pid" 2>/dev/null
	unset "pids[$name]"
}

# The last that was started ends first: nginx before the workers, they before Redis.
stop_all() {
	trap '' INT TERM HUP
	local i
	for ((i = ${#started[@]} - 1; i >= 0; i--)); do
		stop "${started[i]}"
	done
}
trap stop_all EXIT
trap 'exit 0' INT TERM HUP

# wait_for NAME WHAT COMMAND...: until the command is true; NAME is the program that makes it so.
wait_for() {
	local name=$1 what=$2 tries
	shift 2
	for ((tries = 0; tries < 300; tries++)); do
		"$@" && return 0
		kill -0 "${pids[$name]}" 2>/dev/null || break
		sleep 0.1
	done
	tail -n 20 "$RUN_DIR/$name.log" >&2
	fail "$what: $name is not ready; its log is $RUN_DIR/$name.log"
}

rm -f "$RUN_DIR"/*.sock "$RUN_DIR"/*.log.old
for log in redis google integrations nginx nginx-access nginx-error; do
	[ ! -s "$RUN_DIR/$log.log" ] || mv "$RUN_DIR/$log.log" "$RUN_DIR/$log.log.old"
done

# ---- settings: the caller's, else the demo's

real_google=
[ -n "${GOOGLE_CLIENT_ID:-}" ] && [ -n "${GOOGLE_CLIENT_SECRET:-}${GOOGLE_CLIENT_SECRET_FILE:-}" ] && real_google=yes
if [ -z "$real_google" ] && [ -n "${GOOGLE_CLIENT_ID:-}${GOOGLE_CLIENT_SECRET:-}${GOOGLE_CLIENT_SECRET_FILE:-}" ]; then
	fail "only one of GOOGLE_CLIENT_ID and GOOGLE_CLIENT_SECRET is set: set both for the real Google, or none for the stand-in"
fi

PUBLIC_URL=${PUBLIC_URL:-http://localhost:$PORT}
PUBLIC_URL=${PUBLIC_URL%/}
LISTEN=${LISTEN:-$RUN_DIR/integrations.sock}
[ -n "${REDIS_URL:-}${REDIS_URL_FILE:-}" ] || REDIS_URL=unix://$RUN_DIR/redis.sock
ENVIRONMENT=${ENVIRONMENT:-demo}
WORKERS=${WORKERS:-$(nproc)}
MAX_IN_FLIGHT=${MAX_IN_FLIGHT:-768}
SIGN_IN_URL=${SIGN_IN_URL:-/demo/sign-in}
LIMIT_AUTH_LINK=${LIMIT_AUTH_LINK:-20}
LIMIT_VALIDATE=${LIMIT_VALIDATE:-20}
LOG_LEVEL=${LOG_LEVEL:-info}
case $PUBLIC_URL in
https://*) SESSION_COOKIE=${SESSION_COOKIE:-__Host-session} ;;
*) SESSION_COOKIE=${SESSION_COOKIE:-session} ;;
esac

if [ -z "${TOKEN_KEYS:-}${TOKEN_KEYS_FILE:-}" ]; then
	TOKEN_KEYS_FILE=$RUN_DIR/token-keys
	[ -s "$TOKEN_KEYS_FILE" ] || (umask 077 && "$program" keys new 2>"$RUN_DIR/keys.log" | tail -n 1 >"$TOKEN_KEYS_FILE") ||
		fail "cannot make a key: see $RUN_DIR/keys.log"
fi

# The stand-in forgets its grants when it ends, so what was connected with it is not kept either.
redis_keeps=(--save "" --appendonly no)
[ -z "$real_google" ] || redis_keeps=(--save "" --appendonly yes --appendfsync everysec)
mkdir -p "$RUN_DIR/redis"
start redis /usr/bin/redis-server --port 0 --unixsocket "$RUN_DIR/redis.sock" --unixsocketperm 700 \
	--dir "$RUN_DIR/redis" --maxmemory-policy noeviction --hash-max-listpack-value 1024 "${redis_keeps[@]}"
redis_answers() { [ "$(redis-cli -s "$RUN_DIR/redis.sock" ping 2>/dev/null)" = PONG ]; }
wait_for redis "Redis" redis_answers

if [ -n "$real_google" ]; then
	PROVIDERS_DIR=${PROVIDERS_DIR:-$checkout/deploy/providers}
	PROVIDER_ALLOW_PRIVATE=${PROVIDER_ALLOW_PRIVATE:-${PROVIDER_ALLOW_LOOPBACK:-0}}
else
	start google /usr/bin/python3 "$checkout/tests/google/stand_in.py" --directory "$RUN_DIR/google" \
		--https-port 0 --http-port 0 --redirect-uri "$PUBLIC_URL/integrations/google/callback"
	google_ready() { grep -q '^ready ' "$RUN_DIR/google.log" 2>/dev/null; }
	wait_for google "the stand-in Google" google_ready
	GOOGLE_CLIENT_ID=$(/usr/bin/python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["client_id"])' \
		"$RUN_DIR/google/ports.json")
	GOOGLE_CLIENT_SECRET_FILE=$RUN_DIR/google/client-secret
	PROVIDERS_DIR=${PROVIDERS_DIR:-$RUN_DIR/google/providers}
	PROVIDER_CA_FILE=${PROVIDER_CA_FILE:-$RUN_DIR/google/ca.pem}
	PROVIDER_ALLOW_PRIVATE=${PROVIDER_ALLOW_PRIVATE:-${PROVIDER_ALLOW_LOOPBACK:-1}}
fi

# ---- integrations.env: every setting in force, secrets as files

quoted() { printf "'%s'" "${1//\'/\'\\\'\'}"; }

# setting NAME: a line, where it has a value.
setting() {
	[ -z "${!1:-}" ] || printf '%s=%s\n' "$1" "$(quoted "${!1}")"
}

# secret NAME: its value goes into a file, and the environment may not say it twice.
secret() {
	local name=$1 file_name=$1_FILE file
	[ -n "${!name:-}" ] || { setting "$file_name"; return; }
	file=$RUN_DIR/secret-${name,,}
	(umask 077 && printf '%s\n' "${!name}" >"$file") || fail "cannot write $file"
	printf 'unset %s\n%s=%s\n' "$name" "$file_name" "$(quoted "$file")"
}

# redis_url NAME: a secret where it holds a password.
redis_url() {
	case ${!1:-} in
	*@*) secret "$1" ;;
	"") setting "$1_FILE" ;;
	*) setting "$1" ;;
	esac
}

{
	echo "# Written by run.sh at each start: every setting in force."
	setting PUBLIC_URL
	redis_url REDIS_URL
	redis_url SESSION_REDIS_URL
	redis_url REDIS_ADMIN_URL
	for name in LISTEN WORKERS MAX_IN_FLIGHT ENVIRONMENT PROVIDERS_DIR SESSION_COOKIE SIGN_IN_URL PROVIDER_CA_FILE \
		PROVIDER_ALLOW_PRIVATE SEAL_VERSION SEAL_ACCEPT_V1 CALLER_MAC LIMIT_AUTH_LINK LIMIT_VALIDATE AUDIT_USES LOG_LEVEL; do
		setting "$name"
	done
	secret TOKEN_KEYS
	for file in "$PROVIDERS_DIR"/*.json; do
		service=$(basename "$file" .json)
		setting "${service^^}_CLIENT_ID"
		secret "${service^^}_CLIENT_SECRET"
	done
} >"$RUN_DIR/integrations.env" || fail "cannot write $RUN_DIR/integrations.env"

integrations() { (set -a && . "$RUN_DIR/integrations.env" && exec "$program" "$@"); }

# ---- workers, a signed-in user, nginx

# shellcheck disable=SC2016
start integrations sh -c 'set -a && . "$1" && exec "$2" serve' sh "$RUN_DIR/integrations.env" "$program"
wait_for integrations "the workers" test -S "$LISTEN"

token=$(integrations session create --user ada --org acme:admin --org globex:member --ttl 12h 2>"$RUN_DIR/session.log" |
	tail -n 1) || { cat "$RUN_DIR/session.log" >&2; fail "cannot sign the demo user in"; }

user=
[ "$(id -u)" != 0 ] || user="user root;"
mkdir -p "$RUN_DIR/nginx/server.d"
nginx/install.sh "$RUN_DIR/nginx" "PUBLIC_URL=$PUBLIC_URL" "SOCKET=$LISTEN" "WWW=$checkout/nginx/www" "RUN=$RUN_DIR" \
	"ACCESS_LOG=$RUN_DIR/nginx-access.log" "PORT=$PORT" "INTERNAL_PORT=$INTERNAL_PORT" "WORKERS=$(nproc)" "USER=$user" \
	"PROVIDER_CA_FILE=${PROVIDER_CA_FILE:-/etc/ssl/certs/ca-certificates.crt}" || exit 1
secure=
[[ $PUBLIC_URL != https://* ]] || secure="; Secure"
(
	umask 077
	cat >"$RUN_DIR/nginx/server.d/demo.conf" <<-CONF
		location = /demo/sign-in {
			if (\$integrations_misdirected) {
				return 308 $PUBLIC_URL/demo/sign-in;
			}
			absolute_redirect off;
			add_header Set-Cookie "$SESSION_COOKIE=$token; Path=/; HttpOnly; SameSite=Lax$secure";
			add_header Cache-Control no-store;
			add_header Referrer-Policy no-referrer;
			return 302 /integrations;
		}
	CONF
)
start nginx /usr/sbin/nginx -c "$RUN_DIR/nginx/integrations.conf"

all_up() {
	local status
	{
		exec 3<>"/dev/tcp/127.0.0.1/$INTERNAL_PORT" || return 1
		printf 'GET /readyz HTTP/1.0\r\n\r\n' >&3
		read -r _ status _ <&3
		exec 3>&-
	} 2>/dev/null
	[ "$status" = 200 ] && port_taken "$PORT"
}
wait_for nginx "the product" all_up

[ -z "$real_google" ] || echo "Redirect URI to register at Google: $PUBLIC_URL/integrations/google/callback"
echo "Files and logs: $RUN_DIR. Ctrl-C ends everything."
echo "Ready: http://localhost:$PORT/demo/sign-in"

# Whatever ends by itself ends the rest.
wait -n "${pids[@]}"
for name in "${started[@]}"; do
	kill -0 "${pids[$name]}" 2>/dev/null || echo "run.sh: $name has ended; its log is $RUN_DIR/$name.log" >&2
done
exit 1
