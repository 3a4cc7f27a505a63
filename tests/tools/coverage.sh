#!/bin/bash
# Which lines and branches of our own code the tests run: all unit tests, the stored fuzz inputs and the service tests,
# with a program that counts. Prints a row per file; fails when a test fails, or below the bounds of tests/tools/coverage.cfg,
# where the exclusions stand, too.
#
#   tests/tools/coverage.sh          everything
#   tests/tools/coverage.sh report   only the figures of the last run; with names of files, their lines that lack something
#
# A process that is killed loses its counts; all others, workers too, write them when they end. So the
# drills, which end workers, are left out, and what measures times, because counting takes its own.
set -uo pipefail
shopt -s nullglob
cd "$(dirname "$(readlink -f "$0")")/../.." || exit 1

# shellcheck source=deploy/packages.sh
. deploy/packages.sh

build=build/coverage
status=0

run() { # NAME COMMAND...: its output goes to a log, and is shown when it fails
	local log=build/test/coverage-$1.log began=$SECONDS
	if "${@:2}" >"$log" 2>&1 </dev/null; then
		echo "$1: $(tail -n 1 "$log") ($((SECONDS - began)) s)"
	else
		status=1
		tail -n 60 "$log"
		echo "$1 failed ($log)"
	fi
}

unit_tests() {
	local test count=0
	for test in tests/unit/test_*.c; do
		test=${test##*/}
		timeout 300 "$build/unit/${test%.c}" || { echo "${test%.c} ended with status $?"; return 1; }
		count=$((count + 1))
	done
	echo "$count programs passed"
}

python_tests() { # FOLDER
	local files result
	files=$(mktemp -d "${TMPDIR:-/tmp}/integrations-test.XXXXXX") || return 1
	PYTHONDONTWRITEBYTECODE=1 INTEGRATIONS_BIN=$PWD/$build/integrations /usr/bin/python3 -m pytest -q -rfE --tb=short \
		-p no:cacheprovider --basetemp "$files/t" -n 2 --dist loadfile --ignore tests/service/test_load.py "tests/$1"
	result=$?
	rm -rf "$files"
	return $result
}

if [ "${1:-}" != report ]; then
	mkdir -p build/test
	install_packages build/test/packages.log gcovr || exit 1
	make -j2 COVERAGE=1 all unit-tests fuzz-targets || exit 1
	find "$build" -name '*.gcda' -delete
	run unit unit_tests
	run fuzz env MODE=COVERAGE tests/fuzz/run.sh replay
	run service python_tests service
fi
gcovr --root . --object-directory "$build" --filter 'common/' --filter 'fcgi/' --exclude-unreachable-branches \
	--exclude-throw-branches --json "$build/coverage.json" "$build/obj" || exit 1
/usr/bin/python3 -B tests/tools/coverage.py "$build/coverage.json" tests/tools/coverage.cfg "${@:2}" || status=1
exit $status
