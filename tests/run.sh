#!/bin/bash
# Installs what is missing, builds, and runs every test; or only the stages that are named:
#
#   tests/run.sh                 all of them
#   tests/run.sh unit service    these
#
# Stages: lint, unit, stand-in, fuzz (the stored inputs), service, drills (a share of them), load, browser, unit-sanitize,
# service-sanitize (a fifth of them; make sanitize: all). The last line counts all tests of all stages; the status is 0 only
# when none failed. Logs, and what the services of the tests wrote, are kept in build/test.
set -uo pipefail
shopt -s nullglob

self=$(readlink -f "$0")
cd "$(dirname "$self")/.." || exit 1
# shellcheck source=deploy/packages.sh
. deploy/packages.sh

STAGES=(lint unit stand-in fuzz service drills load browser unit-sanitize service-sanitize)
# Stages of one line run beside each other, the lines one after the other: what measures times has the machine to itself.
TOGETHER=("lint unit+unit-sanitize+fuzz+stand-in" "service" "load" "browser service-sanitize+drills")
# Most service tests wait more than they work, so several files run at once, each with a product of its own.
SIDE_BY_SIDE=(--dist loadfile)
ALONE=(tests/service/test_load.py tests/service/test_signals.py)
TEST_PACKAGES=(git python3-pytest python3-pytest-xdist python3-redis python3-requests python3-selenium chromium
	chromium-driver libcmocka-dev clang clang-format clang-tidy cppcheck shellcheck lua5.1 wrk haproxy)
LOGS=build/test

# ---- the stages: each writes to its standard output, and its status tells how it went

# python_tests NAME ARGUMENT...: pytest, with its files in a short path, because paths of sockets have to be short.
python_tests() {
	local files status
	files=$(mktemp -d "${TMPDIR:-/tmp}/integrations-test.XXXXXX") || return 1
	PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 -m pytest -q -rfE --tb=short -p no:cacheprovider --basetemp "$files/t" "${@:2}"
	status=$?
	mkdir -p "$LOGS/$1"
	(cd "$files" && find . -name '*.log*' -type f -size +0 -print0 | tar cf - --null -T -) | tar xf - -C "$LOGS/$1"
	rm -rf "$files"
	return $status
}

unit_tests() { # BUILD [MAKE ARGUMENT]
	local test status=0
	make -j"$(nproc)" "${@:2}" unit-tests || return 1
	for test in "$1"/unit/test_*; do
		[[ $test == *.* ]] && continue
		[ -f "tests/unit/${test##*/}.c" ] || continue
		echo "== ${test##*/}"
		timeout 300 "$test" 2>&1 || { status=1; echo "${test##*/} ended with status $?"; }
	done
	return $status
}

stage() {
	case $1 in
	lint) tests/lint.sh ;;
	unit) unit_tests build ;;
	unit-sanitize) unit_tests build/sanitize SANITIZE=1 ;;
	fuzz) tests/fuzz/run.sh replay ;;
	stand-in) python_tests stand-in tests/google ;;
	service)
		make -j"$(nproc)" &&
			python_tests service -n 4 "${SIDE_BY_SIDE[@]}" tests/service "${ALONE[@]/#/--ignore=}"
		;;
	drills) make -j"$(nproc)" all drill-tools && python_tests drills -n 2 "${SIDE_BY_SIDE[@]}" tests/drills ;;
	load) make -j"$(nproc)" && python_tests load "${ALONE[@]}" ;;
	service-sanitize)
		make -j"$(nproc)" SANITIZE=1 &&
			SERVICE_SHARE=${SERVICE_SHARE:-20} INTEGRATIONS_BIN=$PWD/build/sanitize/integrations \
				python_tests service-sanitize -n 2 "${SIDE_BY_SIDE[@]}" tests/service
		;;
	browser) make -j"$(nproc)" && python_tests browser -n 2 "${SIDE_BY_SIDE[@]}" tests/browser ;;
	esac
}

# ---- counting

# counts LOG: "passed failed skipped", of whatever wrote the log: cmocka, pytest, or a line of our own.
counts() {
	awk '
	/^\[  PASSED  \] [0-9]+ test/ { passed += $4 }
	/^\[  FAILED  \] [0-9]+ test/ { failed += $4 }
	/^\[  SKIPPED \] [0-9]+ test/ { skipped += $4 }
	/^=* ?[0-9]+ (passed|failed|skipped|error|errors|deselected|xfailed|warnings?)(,| in )/ || /^[0-9]+ passed, [0-9]+ failed$/ {
		for (i = 1; i < NF; i++) {
			if ($(i + 1) ~ /^passed/) passed += $i
			if ($(i + 1) ~ /^(failed|error)/) failed += $i
			if ($(i + 1) ~ /^skipped/) skipped += $i
		}
	}
	END { print passed + 0, failed + 0, skipped + 0 }' "$1"
}

total_passed=0 total_failed=0 total_skipped=0

# report STAGE STATUS SECONDS
report() {
	local log=$LOGS/$1.log passed failed skipped
	read -r passed failed skipped < <(counts "$log")
	# A stage that ended badly, or that ran no test, has failed, whatever it counted.
	if [ "$failed" = 0 ] && { [ "$2" != 0 ] || [ "$passed" = 0 ]; }; then
		failed=1
	fi
	if [ "$failed" != 0 ]; then
		echo "---- $1 ($log)"
		tail -n 150 "$log"
		echo "----"
	fi
	printf '%-17s %5d passed, %d failed, %d skipped  %4d s\n' "$1" "$passed" "$failed" "$skipped" "$3"
	total_passed=$((total_passed + passed)) total_failed=$((total_failed + failed))
	total_skipped=$((total_skipped + skipped))
}

# ---- running

if [ "${1:-}" = --stage ]; then
	stage "$2"
	exit
fi

chosen=("$@")
[ $# -gt 0 ] || chosen=("${STAGES[@]}")
for name in "${chosen[@]}"; do
	[[ " ${STAGES[*]} " == *" $name "* ]] || {
		echo "tests/run.sh: there is no stage $name; stages: ${STAGES[*]}" >&2
		exit 2
	}
done

mkdir -p "$LOGS"
command -v npm >/dev/null || TEST_PACKAGES+=(npm)
install_packages "$LOGS/packages.log" "${PRODUCT_PACKAGES[@]}" "${TEST_PACKAGES[@]}" || exit 1
build "$LOGS/build.log" "Building" || exit 1

running=()
trap 'for pid in "${running[@]}"; do kill -TERM -- "-$pid" 2>/dev/null; done' EXIT
trap 'exit 130' INT TERM HUP

# lane STAGE...: one after the other, each in a session of its own, so that its end can be made sure of.
begun=$SECONDS
for line in "${TOGETHER[@]}"; do
	declare -A at=() since=() todo=()
	for lane in $line; do
		queue=""
		for name in ${lane//+/ }; do
			[[ " ${chosen[*]} " == *" $name "* ]] && queue+="$name "
		done
		[ -n "$queue" ] && todo[$lane]=$queue
	done
	while [ ${#todo[@]} -gt 0 ] || [ ${#at[@]} -gt 0 ]; do
		for lane in "${!todo[@]}"; do
			[[ " ${at[*]} " == *" $lane "* ]] && continue
			name=${todo[$lane]%% *}
			todo[$lane]=${todo[$lane]#* }
			[ -n "${todo[$lane]}" ] || unset "todo[$lane]"
			echo "Running $name"
			setsid "$self" --stage "$name" >"$LOGS/$name.log" 2>&1 </dev/null &
			at[$!]=$lane
			since[$!]="$name $SECONDS"
			running+=("$!")
		done
		wait -n -p pid "${!at[@]}"
		status=$?
		read -r name start <<<"${since[$pid]}"
		unset "at[$pid]"
		report "$name" "$status" $((SECONDS - start))
	done
done
running=()

echo "all stages in $((SECONDS - begun)) s"
if [ "$total_skipped" != 0 ]; then
	echo "$total_passed passed, $total_failed failed, $total_skipped skipped"
else
	echo "$total_passed passed, $total_failed failed"
fi
[ "$total_failed" = 0 ] && [ "$total_passed" -gt 0 ]
