#!/bin/bash
# Fuzzes the parsers of hostile text.
#
#   tests/fuzz/run.sh [SECONDS [TARGET...]]   with libFuzzer, SECONDS for each target (default 60)
#   tests/fuzz/run.sh replay [TARGET...]      the stored inputs once, under AddressSanitizer and UBSan, without libFuzzer
#
# Inputs that libFuzzer finds are kept in build/fuzz/corpus; one that fails is kept as build/fuzz/TARGET-*, and belongs
# into tests/fuzz/corpus/TARGET once the mistake is mended.
set -uo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.." || exit 1

mode=${1:-60}
[ $# -gt 0 ] && shift
targets=("$@")
[ $# -gt 0 ] || for file in tests/fuzz/fuzz_*.c; do
	name=${file##*/fuzz_}
	targets+=("${name%.c}")
done

sources=()
for name in arena buf clock cookie crypto json_read json_write jwt oauth2 random seal text url; do
	sources+=("common/$name.c")
done
flags=(-std=c11 -D_GNU_SOURCE -I. -g -O1 -fno-omit-frame-pointer -fno-sanitize-recover=all -Wall -Wextra -Werror)
libraries=(-lyajl -lcrypto)
mkdir -p build/fuzz || exit 1

replay() {
	local name compiler=${CC:-gcc} objects=() source passed=0 failed=0 log
	for source in "${sources[@]}" tests/fuzz/replay.c; do
		name=${source##*/}
		objects+=("build/fuzz/${name%.c}.o")
		"$compiler" "${flags[@]}" -fsanitize=address,undefined -c -o "build/fuzz/${name%.c}.o" "$source" || return 1
	done
	for name in "${targets[@]}"; do
		log=build/fuzz/$name.log
		if "$compiler" "${flags[@]}" -fsanitize=address,undefined -o "build/fuzz/replay_$name" \
			"tests/fuzz/fuzz_$name.c" "${objects[@]}" "${libraries[@]}" &&
			"build/fuzz/replay_$name" "tests/fuzz/corpus/$name" >"$log" 2>&1; then
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
	local name status=0
	for name in "${targets[@]}"; do
		echo "== $name, $1 s"
		mkdir -p "build/fuzz/corpus/$name"
		clang "${flags[@]}" -fsanitize=fuzzer,address,undefined -o "build/fuzz/fuzz_$name" "tests/fuzz/fuzz_$name.c" \
			"${sources[@]}" "${libraries[@]}" &&
			"build/fuzz/fuzz_$name" -max_total_time="$1" -max_len=20000 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
				-artifact_prefix="build/fuzz/$name-" "build/fuzz/corpus/$name" "tests/fuzz/corpus/$name" || status=1
	done
	return $status
}

if [ "$mode" = replay ]; then
	replay
else
	fuzz "$mode"
fi
