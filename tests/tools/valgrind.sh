#!/bin/bash
# The unit tests and the main job of the service under valgrind: what is read before it was written, which AddressSanitizer
# does not see, and what is lost. Takes some minutes.
#
#   tests/tools/valgrind.sh            all of it
#   tests/tools/valgrind.sh NAME...    these: names of unit tests (test_seal), or service
#
# All but test_sandbox: valgrind makes system calls of its own, and knows of no filters.
set -uo pipefail
shopt -s nullglob
cd "$(dirname "$(readlink -f "$0")")/../.." || exit 1
# shellcheck source=deploy/packages.sh
. deploy/packages.sh

build=$PWD/build/valgrind
reports=$build/reports
options=(--quiet --error-exitcode=99 --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite
	--num-callers=30 --vgdb=no --run-libc-freeres=no)
mkdir -p "$reports" || exit 1
rm -f "$reports"/*
install_packages "$build/packages.log" "${PRODUCT_PACKAGES[@]}" python3-pytest python3-redis python3-requests libcmocka-dev \
	valgrind libc6-dbg || exit 1
# A build of its own: the program has to know that valgrind is there, and valgrind to see what the source says.
make -j"$(nproc)" BUILD=build/valgrind MODE="-O1 -g -fno-omit-frame-pointer" all unit-tests >"$build/build.log" 2>&1 || {
	tail -n 30 "$build/build.log" >&2
	exit 1
}

names=("$@")
[ $# -gt 0 ] || {
	for test in tests/unit/test_*.c; do
		name=${test##*/}
		[ "$name" = test_sandbox.c ] || names+=("${name%.c}")
	done
	names+=(service)
}

unit() {
	timeout 900 valgrind "${options[@]}" --log-file="$reports/$1.%p" "$build/unit/$1" >"$reports/$1.out" 2>&1
}

# The processes of `serve` are forks of one another, so valgrind is in all of them; each writes a report.
service() {
	local files status
	cat >"$build/serve" <<SCRIPT
#!/bin/sh
exec valgrind ${options[*]} --log-file=$reports/service.%p $build/integrations "\$@"
SCRIPT
	chmod 755 "$build/serve"
	files=$(mktemp -d "${TMPDIR:-/tmp}/integrations-test.XXXXXX") || return 1
	INTEGRATIONS_BIN=$build/serve PYTHONDONTWRITEBYTECODE=1 timeout 1200 /usr/bin/python3 -m pytest -q --tb=short \
		-p no:cacheprovider --basetemp "$files/t" tests/service/test_smoke.py >"$reports/service.out" 2>&1
	status=$?
	rm -rf "$files"
	return $status
}

passed=0 failed=0
for name in "${names[@]}"; do
	if [ "$name" = service ]; then service; else unit "$name"; fi
	status=$?
	found=()
	for report in "$reports/$name".[0-9]*; do
		[ -s "$report" ] && found+=("$report")
	done
	if [ "$status" = 0 ] && [ ${#found[@]} -eq 0 ]; then
		echo "== $name: well"
		passed=$((passed + 1))
	else
		echo "== $name: status $status"
		tail -n 40 "$reports/$name.out" ${found[@]+"${found[@]}"}
		failed=$((failed + 1))
	fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
