#!/bin/sh
# What the browser tests need from npm, unless it is here: npm.sh [PACKAGE@VERSION ...], beside what package.json names.
set -eu
cd "$(dirname "$0")"
# Several runs of tests begin at once, and only one may install.
exec 9<.
flock 9

here() {
	[ "$(node -p "require('./node_modules/$1/package.json').version" 2>/dev/null)" = "$2" ]
}

missing=
for package in axe-core@$(node -p "require('./package.json').devDependencies['axe-core']") "$@"; do
	here "${package%@*}" "${package##*@}" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

echo "Installing$missing from npm"
npm install --no-save --no-package-lock --ignore-scripts --no-audit --no-fund "$@" >node_modules.log 2>&1 || {
	cat node_modules.log >&2
	rm -rf node_modules # half of a package would be taken for all of it
	exit 1
}
rm -f node_modules.log
