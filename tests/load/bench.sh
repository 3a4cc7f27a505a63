#!/bin/bash
# Builds, measures, prints the table; see bench.py for its options.
set -eu
cd "$(dirname "$(readlink -f "$0")")/../.."
make -s -j"$(nproc)"
mkdir -p build/bench
cc -O2 -o build/bench/hello tests/load/hello.c -lfcgi
cc -O2 -D_GNU_SOURCE -o build/bench/bare tests/load/bare.c -lfcgi -lhiredis -lcrypto
exec /usr/bin/python3 -B tests/load/bench.py "$@"
