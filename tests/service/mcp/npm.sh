#!/bin/sh
# What the tests of the gateway need from npm, as package.json names it, unless it is here.
set -eu
cd "$(dirname "$0")"

wanted=$(node -p "require('./package.json').devDependencies['@modelcontextprotocol/sdk']")
here=$(node -p "require('./node_modules/@modelcontextprotocol/sdk/package.json').version" 2>/dev/null || true)
[ "$here" != "$wanted" ] || exit 0

echo "Installing the MCP SDK $wanted from npm"
npm install --no-save --no-package-lock --ignore-scripts --no-audit --no-fund >node_modules.log 2>&1 || {
	cat node_modules.log >&2
	exit 1
}
rm -f node_modules.log
