#!/bin/sh
# Copies the nginx files into nginx's directory (/etc/nginx, or one of their own) and fills in the site's values.
#   nginx/install.sh DIRECTORY [NAME=VALUE ...]
# Names: PUBLIC_URL, SOCKET, WWW; TLS (here: this nginx ends it, and what comes in clear is refused; front: a proxy does);
# HSTS (the header's value, or off); ACCESS_LOG (a path, or off: where requests for these locations are logged, whatever else
# the server logs); for the gateway PROVIDER_CA_FILE (whom its upstreams are trusted by), RESOLVER (the name servers that know
# them, as nginx writes addresses), GATEWAY_TIMEOUT (how long an MCP may be silent), GATEWAY_STREAM_SECONDS (how long an answer
# of the gateway may last), GATEWAY_STREAMS (requests of one session at once) and LUA (on or off: whether nginx has its Lua
# module; the default is on where Debian's is installed); and for a complete configuration from integrations.conf: RUN, PORT,
# INTERNAL_PORT, WORKERS, USER.
set -eu

fail() {
	echo "nginx/install.sh: $1" >&2
	exit 1
}

[ $# -ge 1 ] || fail "name the directory to copy to"
directory=$1
shift
source=$(cd "$(dirname "$0")" && pwd)

PUBLIC_URL=https://integrations.example.com
SOCKET=/run/integrations/integrations.sock
WWW=$source/www
# Beside nginx's own, and not in it: the lines are JSON, and buffered.
ACCESS_LOG=/var/log/nginx/integrations.log
PROVIDER_CA_FILE=/etc/ssl/certs/ca-certificates.crt
# Those of this machine. An address with a zone is none that nginx takes.
RESOLVER=$(awk '$1 == "nameserver" && $2 !~ /%/ { print ($2 ~ /:/ ? "[" $2 "]" : $2) }' /etc/resolv.conf 2>/dev/null | paste -sd ' ')
GATEWAY_TIMEOUT=1h
GATEWAY_STREAM_SECONDS=900
GATEWAY_STREAMS=100
LUA=off
[ ! -e /usr/lib/nginx/modules/ngx_http_lua_module.so ] || LUA=on
TLS=front
HSTS=max-age=63072000
RUN=/run/integrations
PORT=8080
INTERNAL_PORT=8081
WORKERS=auto
USER=
for setting in "$@"; do
	value=${setting#*=}
	case $value in
	*[!A-Za-z0-9:/._@%+,=\ \;\[\]-]*) fail "${setting%%=*} holds a character that nginx's configuration would not take" ;;
	esac
	case $setting in
	PUBLIC_URL=*) PUBLIC_URL=${value%/} ;;
	SOCKET=*) SOCKET=$value ;;
	WWW=*) WWW=$value ;;
	ACCESS_LOG=*) ACCESS_LOG=$value ;;
	PROVIDER_CA_FILE=*) PROVIDER_CA_FILE=$value ;;
	RESOLVER=*) RESOLVER=$value ;;
	GATEWAY_TIMEOUT=*) GATEWAY_TIMEOUT=$value ;;
	GATEWAY_STREAM_SECONDS=*) GATEWAY_STREAM_SECONDS=$value ;;
	GATEWAY_STREAMS=*) GATEWAY_STREAMS=$value ;;
	LUA=on | LUA=off) LUA=$value ;;
	TLS=*) TLS=$value ;;
	HSTS=*) HSTS=$value ;;
	RUN=*) RUN=$value ;;
	PORT=*) PORT=$value ;;
	INTERNAL_PORT=*) INTERNAL_PORT=$value ;;
	WORKERS=*) WORKERS=$value ;;
	USER=*) USER=$value ;;
	*) fail "$setting is not a value of this script" ;;
	esac
done

case $TLS in
here | front) ;;
*) fail "TLS must be here or front" ;;
esac
case $HSTS in
off) HSTS="" ;;
max-age=[0-9]*) ;;
*) fail "HSTS must begin with max-age=, or be off" ;;
esac

# What the browser sends as Host: without the scheme, and without a port that is the scheme's own.
host=${PUBLIC_URL#*://}
case $PUBLIC_URL in
https://*) host=${host%:443} ;;
*)
	[ "$TLS" = front ] || fail "TLS=here needs a PUBLIC_URL that begins with https"
	host=${host%:80} HSTS="" TLS=none
	;;
esac

# Without a name server there is no directive, and a name that cannot be looked up is a provider that does not answer.
[ -z "$RESOLVER" ] || RESOLVER="resolver $RESOLVER;"

case $ACCESS_LOG in
off) access_log="access_log off;" ;;
/*) access_log="access_log $ACCESS_LOG integrations buffer=64k flush=1s;" ;;
*) fail "ACCESS_LOG must be a path that begins with /, or off" ;;
esac

# number NAME VALUE MOST
number() {
	case $2 in
	"" | *[!0-9]* | ???????*) fail "$1 must be a whole number from 1 to $3" ;;
	esac
	{ [ "$2" -ge 1 ] && [ "$2" -le "$3" ]; } || fail "$1 must be a whole number from 1 to $3"
}

number GATEWAY_STREAM_SECONDS "$GATEWAY_STREAM_SECONDS" 86400
number GATEWAY_STREAMS "$GATEWAY_STREAMS" 65535
case $GATEWAY_TIMEOUT in
*h) silence=${GATEWAY_TIMEOUT%h} unit=3600 ;;
*m) silence=${GATEWAY_TIMEOUT%m} unit=60 ;;
*) silence=${GATEWAY_TIMEOUT%s} unit=1 ;;
esac
number "GATEWAY_TIMEOUT (with s, m or h behind it)" "$silence" 86400
silence=$((silence * unit))
# Half of a stream's time at most, so that a silence never outlasts it.
[ "$silence" -le $(((GATEWAY_STREAM_SECONDS + 1) / 2)) ] || silence=$(((GATEWAY_STREAM_SECONDS + 1) / 2))

lua_modules="" gateway_answer=""
if [ $LUA = on ]; then
	lua_modules="load_module modules/ndk_http_module.so; load_module modules/ngx_http_lua_module.so;"
	gateway_answer="include snippets/integrations-gateway-answer.conf;"
fi

mkdir -p "$directory/snippets"
for file in "$source"/*.conf "$source"/parts/*.conf; do
	sed -e "s|@PUBLIC_URL@|$PUBLIC_URL|g" -e "s|@PUBLIC_HOST@|$host|g" -e "s|@HSTS@|$HSTS|g" -e "s|@TLS@|$TLS|g" \
		-e "s|@ACCESS_LOG@|$access_log|g" -e "s|@PROVIDER_CA_FILE@|$PROVIDER_CA_FILE|g" -e "s|@RESOLVER@|$RESOLVER|g" \
		-e "s|@LUA_MODULES@|$lua_modules|g" -e "s|@GATEWAY_ANSWER@|$gateway_answer|g" \
		-e "s|@GATEWAY_STREAMS@|$GATEWAY_STREAMS|g" -e "s|@GATEWAY_SILENCE@|$silence|g" -e "s|@GATEWAY_STREAM_SECONDS@|$GATEWAY_STREAM_SECONDS|g" -e "s|@SOCKET@|$SOCKET|g" -e "s|@WWW@|$WWW|g" \
		-e "s|@RUN@|$RUN|g" -e "s|@PORT@|$PORT|g" -e "s|@INTERNAL_PORT@|$INTERNAL_PORT|g" -e "s|@WORKERS@|$WORKERS|g" -e "s|@USER@|$USER|g" \
		"$file" >"$directory/snippets/${file##*/}"
done
mv "$directory/snippets/integrations.conf" "$directory/integrations.conf"
