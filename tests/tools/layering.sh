#!/bin/bash
# Checks that each library has one home and that calls that go wrong too easily are not made; which file may include
# which is in layers.py. Prints every offence; fails when there is one.
set -u
cd "$(dirname "$0")/../.." || exit 1
offences=$(mktemp)
trap 'rm -f "$offences"' EXIT

# no WHAT PATTERN FILE...: none of these files may have a line with PATTERN.
no() {
	local what=$1 pattern=$2
	shift 2
	[ $# -gt 0 ] && grep -nE "$pattern" "$@" /dev/null | sed "s|^|$what: |" >>"$offences"
}

# home HEADERS HOMES: headers that only files whose path matches HOMES may include.
home() {
	local file
	for file in common/*.[ch] fcgi/*.[ch]; do
		[[ $file =~ $2 ]] || no "includes it outside its home" "^ *# *include *[<\"]$1" "$file"
	done
}

shopt -s nullglob
sources=(common/*.[ch] fcgi/*.[ch])

no "includes name their folder" '^ *# *include *"[^/"]*"' "${sources[@]}"

home 'hiredis' '^common/redis[a-z_]*\.c$'
home 'curl/' '^common/http(_internal\.h|_loop\.c|\.c)$'
home 'openssl/' '^common/(crypto|seal|jwt|random|trust)\.c$'
home 'fcgiapp\.h' '^fcgi/fastcgi\.c$'
home 'fcgi_' '^fcgi/fastcgi\.c$'
home 'yajl/' '^common/json_[a-z]*\.c$'
home 'ev\.h' '^common/loop\.c$'
home 'ucontext\.h' '^common/fiber\.c$'
home 'seccomp\.h' '^fcgi/sandbox_calls\.c$'
home 'linux/landlock\.h' '^common/landlock\.c$'

no "a route is reached through the router only" '^ *# *include *"fcgi/route_' "${sources[@]}"
no "a route uses no library itself" '^ *# *include *<(hiredis|curl|openssl|fcgi|yajl|ev)' fcgi/route_*.c fcgi/tokens*.c fcgi/store_*.c

# Calls that overflow, that block the loop, that read the environment late, that compare secrets byte by byte.
call='(^|[^a-zA-Z0-9_>.])'
no "banned call" "$call(strcpy|strcat|sprintf|vsprintf|gets|strtok|system|popen|tmpnam|mktemp|alloca|atoi|atol|atoll|setjmp|longjmp)\\(" "${sources[@]}"
no "blocks the loop" "$call(sleep|usleep|nanosleep|getaddrinfo|gethostbyname|redisCommand[a-zA-Z]*|redisGetReply|curl_easy_perform)\\(" "${sources[@]}"
no "formats a Redis command" 'redis(Append)?Command\(|redisvAppendCommand|redisFormatCommand\(' "${sources[@]}"
for file in "${sources[@]}"; do
	[[ $file =~ ^fcgi/(config|cmd_serve|listen)[a-z_]*\.c$ ]] || no "reads the environment outside config" "${call}(secure_)?getenv\\(" "$file"
done
no "a secret compared byte by byte" "${call}(strn?cmp|memcmp)\\([^)]*(token|secret|verifier|nonce|mac|digest)[a-z_]*[,)]" "${sources[@]}"
no "left behind" '\b(T[O]DO|FI[X]ME|X[X]X|HA[C]K)\b' "${sources[@]}" nginx/*.conf nginx/parts/*.conf nginx/*.sh deploy/*.sh tests/*.sh Makefile

if [ -s "$offences" ]; then
	sort -u "$offences"
	echo "layering: $(sort -u "$offences" | wc -l) offences" >&2
	exit 1
fi
echo "layering: ${#sources[@]} files are in order"
