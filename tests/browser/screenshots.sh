#!/bin/sh
# Makes the pictures of README.md and nginx/README.md anew, from the real pages: tests/browser/screenshots/*.png
set -eu
cd "$(dirname "$0")"
make -s -C ../.. all
exec /usr/bin/python3 -B screenshots.py
