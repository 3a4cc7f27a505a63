#!/bin/sh
# Makes the pictures of the README anew, from the real pages: tests/browser/screenshots/*.png
set -eu
cd "$(dirname "$0")"
make -s -C ../.. all
exec /usr/bin/python3 -B screenshots.py
