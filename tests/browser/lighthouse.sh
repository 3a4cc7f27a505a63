#!/bin/sh
# Lighthouse on every page: performance, accessibility and best practices have to be 100. Reports: build/lighthouse/
set -eu
cd "$(dirname "$0")"
./npm.sh lighthouse@12.2.3
make -s -C ../.. all
exec /usr/bin/python3 -B lighthouse.py
