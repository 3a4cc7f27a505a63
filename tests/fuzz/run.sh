#!/bin/bash
# Fuzzes everything that takes bytes from outside.
#
#   tests/fuzz/run.sh [SECONDS [TARGET...]]   with libFuzzer, SECONDS for each target (default 60)
#   tests/fuzz/run.sh replay [TARGET...]      the stored inputs once, under AddressSanitizer and UBSan, without libFuzzer
#
# Inputs that libFuzzer finds are kept in build/fuzz/corpus; one that fails is kept as build/fuzz/TARGET-*, and belongs
# into tests/fuzz/corpus/TARGET once the mistake is mended. tests/fuzz/TARGET.dict has the words that a target's inputs
# are made of. MODE=COVERAGE replays with the program that counts.
set -uo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.." || exit 1

mode=${1:-60}
[ $# -gt 0 ] && shift
targets=("$@")
[ $# -gt 0 ] || for file in tests/fuzz/fuzz_*.c; do
	name=${file##*/fuzz_}
	targets+=("${name%.c}")
done
mkdir -p build/fuzz || exit 1
TMPDIR=$(mktemp -d "${TMPDIR:-/tmp}/integrations-fuzz.XXXXXX") || exit 1
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT

replay() {
	local name passed=0 failed=0 log programs=build/sanitize/fuzz
	[ "${MODE:-SANITIZE}" = COVERAGE ] && programs=build/coverage/fuzz
	make -j"$(nproc)" "${MODE:-SANITIZE}=1" "${targets[@]/#/$programs/}" || return 1
	for name in "${targets[@]}"; do
		log=build/fuzz/$name.log
		if timeout 120 "$programs/$name" "tests/fuzz/corpus/$name" >"$log" 2>&1; then
			echo "== $name: $(tail -n 1 "$log" | cut -d, -f1)"
			passed=$((passed + 1))
		else
			echo "== $name"
			tail -n 40 "$log"
			failed=$((failed + 1))
		fi
	done
	echo "$passed passed, $failed failed"
	[ "$failed" = 0 ]
}

fuzz() {
	local name dictionary status=0 programs=build/libfuzzer/fuzz
	make -j"$(nproc)" CC=clang FUZZ=1 "${targets[@]/#/$programs/}" || return 1
	for name in "${targets[@]}"; do
		echo "== $name, $1 s"
		mkdir -p "build/fuzz/corpus/$name"
		dictionary=()
		[ -f "tests/fuzz/$name.dict" ] && dictionary=("-dict=tests/fuzz/$name.dict")
		"$programs/$name" -max_total_time="$1" -max_len=20000 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
			"${dictionary[@]}" -artifact_prefix="build/fuzz/$name-" "build/fuzz/corpus/$name" \
			"tests/fuzz/corpus/$name" || status=1
	done
	return $status
}

if [ "$mode" = replay ]; then
	replay
else
	fuzz "$mode"
fi
