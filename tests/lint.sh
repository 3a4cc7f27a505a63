#!/bin/bash
# Everything that can be said about the sources without running them. Each check prints what it finds; the last lines
# name those that failed.
set -u
cd "$(dirname "$0")/.." || exit 1
shopt -s nullglob globstar

sources=(common/*.c fcgi/*.c)
headers=(common/*.h fcgi/*.h)
tests=(tests/unit/*.[ch] tests/fuzz/*.[ch] tests/load/*.[ch] tests/drills/*.c)
flags=(-I. -D_GNU_SOURCE -std=c11)
jobs=$(nproc)
passed=0 failed=()

# check NAME COMMAND...: run it, say how it went.
check() {
	local name=$1
	shift
	if "$@"; then
		passed=$((passed + 1))
	else
		failed+=("$name")
	fi
}

each() { # COMMAND... with every source file as the last argument, several at a time
	printf '%s\n' "${sources[@]}" | xargs -P "$jobs" -n 1 "$@"
}

formatted() { clang-format --dry-run -Werror "${sources[@]}" "${headers[@]}" "${tests[@]}"; }
# shellcheck disable=SC2016 # expanded by the inner shell
tidy() { each sh -c 'clang-tidy --quiet "$0" -- -I. -D_GNU_SOURCE -std=c11 2>/dev/null'; }
# shellcheck disable=SC2016
analysed() {
	each sh -c 'gcc -fanalyzer -Werror -O2 -I. -D_GNU_SOURCE -std=c11 -c -o /dev/null "$0"'
}
clang_compiles() {
	each clang "${flags[@]}" -fsyntax-only -Wall -Wextra -Werror -Wshadow -Wconversion -Wsign-conversion -Wformat=2 \
		-Wimplicit-fallthrough -Wstrict-prototypes -Wmissing-prototypes -Wcomma -Wassign-enum
}
# varFuncNullUB: NULL is a pointer in every C library that this runs on. autoVariables: a waiter lives on the stack of its
# parked fiber.
cppchecked() {
	cppcheck -q -j "$jobs" --std=c11 --enable=warning,performance,portability --inline-suppr --error-exitcode=1 \
		--suppress=missingIncludeSystem --suppress=varFuncNullUB \
		--suppress=autoVariables -I. -D_GNU_SOURCE common fcgi
}
shell_scripts() {
	command -v shellcheck >/dev/null || { echo "shellcheck is not installed: skipped"; return 0; }
	shellcheck -x -S warning .ci/run deploy/**/*.sh nginx/*.sh tests/**/*.sh
}
python_compiles() {
	/usr/bin/python3 - tests/**/*.py <<'PYTHON'
import ast, sys
for path in sys.argv[1:]:
    with open(path, encoding="utf-8") as file:
        ast.parse(file.read(), path)
PYTHON
}
# nginx reads its own configuration, filled in as an installation would have it.
nginx_reads() {
	local directory user=
	directory=$(mktemp -d)
	[ "$(id -u)" = 0 ] && user="user root;"
	nginx/install.sh "$directory/nginx" "RUN=$directory" "SOCKET=$directory/s" "ACCESS_LOG=$directory/access.log" "WWW=$PWD/nginx/www" "USER=$user" &&
		/usr/sbin/nginx -t -q -c "$directory/nginx/integrations.conf"
	local status=$?
	rm -rf "$directory"
	return $status
}
no_machine_paths() {
	! git grep -nE '/(work|root|home)/[a-z]' -- ':!tests/lint.sh' ':!*.svg'
}

# Redis has Lua 5.1.
lua_compiles() {
	command -v luac5.1 >/dev/null || { echo "lua5.1 is not installed" >&2; return 1; }
	luac5.1 -p fcgi/lua/*.lua
}

# A mutant whose text has gone is no mutant any more.
mutants_fit() { tests/mutants/run.py --list >/dev/null; }

# Its own closing count would be counted twice.
says_nothing() {
	local said
	said=$("$@" 2>&1) && return
	printf '%s\n' "$said" | sed '$d'
	return 1
}

make -s lua || exit 1 # what the sources include
check layering tests/tools/layering.sh
check layers tests/tools/layers.py
check format formatted
check cppcheck cppchecked
check clang clang_compiles
check clang-tidy tidy
check gcc-analyzer analysed
check shellcheck shell_scripts
check python python_compiles
check lua lua_compiles
check nginx nginx_reads
check machine-paths no_machine_paths
check mutants mutants_fit
check tables says_nothing tests/tools/readme.py
check pages says_nothing tests/tools/pages.py

[ ${#failed[@]} -eq 0 ] || printf 'lint: %s failed\n' "${failed[@]}"
echo "$passed passed, ${#failed[@]} failed"
[ ${#failed[@]} -eq 0 ]
