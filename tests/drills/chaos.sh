#!/bin/bash
# All of the chaos drills, in about a quarter of an hour: tests/drills/chaos.sh [SEED]. Without a seed one is drawn. The same
# seed draws the same kills, orders and cases again; what the machine does in between is its own.
set -uo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.." || exit 1

seed=${1:-$RANDOM}
echo "seed $seed (again: make chaos SEED=$seed)"
DRILL_SHARE=1 DRILL_SEED=$seed timeout --foreground 1500 \
	/usr/bin/python3 -B -m pytest -q -s -p no:cacheprovider --tb=short tests/drills/test_chaos*.py
