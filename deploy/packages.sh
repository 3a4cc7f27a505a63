# shellcheck shell=bash
# Sourced by run.sh and tests/run.sh: what both need installed, and how it is installed and built, with progress.

# To build and to run: the compiler, the libraries, the servers, Python for the stand-in Google, and what the pages'
# examples use.
# shellcheck disable=SC2034
PRODUCT_PACKAGES=(gcc make libc6-dev libfcgi-dev libcurl4-openssl-dev libhiredis-dev libyajl-dev libssl-dev libev-dev
	libseccomp-dev nginx-light libnginx-mod-http-headers-more-filter libnginx-mod-http-lua redis-server python3 python3-cryptography
	ca-certificates curl openssl)

# progress LABEL TOTAL: reads a number of finished steps per line, draws a bar; without a terminal a line per tenth.
progress() {
	local label=$1 total=$2 done=0 percent last=-1 line bar
	while read -r line; do
		done=$line
		percent=$((total > 0 ? done * 100 / total : 100))
		[ "$percent" -le 100 ] || percent=100
		if [ -t 1 ]; then
			printf -v bar '%*s' $((percent / 4)) ''
			printf '\r%s  [%-25s] %3d %%' "$label" "${bar// /#}" "$percent"
		elif [ $((percent / 10)) -ne "$last" ]; then
			printf '%s  %d %%\n' "$label" "$percent"
		fi
		last=$((percent / 10))
	done
	[ ! -t 1 ] || printf '\r%s  [%-25s] 100 %%\n' "$label" '#########################'
}

# as_root COMMAND...: with sudo where we are not root already.
as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	else
		sudo "$@"
	fi
}

# What as_root may do, as one script: Debian starts every server that it installs, and these are not wanted running, so
# for as long as the installation lasts a policy says no.
# shellcheck disable=SC2016
INSTALL_SCRIPT='
set -eu
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	trap "rm -f $policy" EXIT
	# A shell that a signal ends runs no EXIT trap.
	trap "exit 130" INT TERM HUP
	printf "#!/bin/sh\nexit 101\n" >"$policy"
	chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get -q update
apt-get -q -y -o APT::Status-Fd=3 -o Dpkg::Use-Pty=0 --no-install-recommends install "$@"
'

# install_packages LOG NAME...: those that are not installed yet; says so and fails where it cannot.
install_packages() {
	local log=$1 missing=() name
	shift
	for name in "$@"; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || missing+=("$name")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	echo "Installing ${#missing[@]} Debian packages: ${missing[*]}"
	if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
		echo "This needs root: install sudo, or have an administrator run: apt-get install ${missing[*]}" >&2
		return 1
	fi
	# The password is asked for before the progress is drawn.
	[ "$(id -u)" = 0 ] || sudo -v || return 1
	# Status lines are "dlstatus:n:percent:..." while downloading and "pmstatus:name:percent:..." while installing.
	if ! as_root sh -c "$INSTALL_SCRIPT" sh "${missing[@]}" 3>&1 >"$log" 2>&1 </dev/null |
		awk -F: '/^(dl|pm)status:/ { printf "%d\n", ($1 == "dlstatus" ? $3 / 2 : 50 + $3 / 2); fflush() }' |
		progress "Installing packages" 100; then
		tail -n 20 "$log" >&2
		echo "Installing the packages failed; all of its output is in $log" >&2
		return 1
	fi
}

# build LOG LABEL [ARGUMENT...]: make, with the number of files for progress.
build() {
	local log=$1 label=$2 total
	shift 2
	total=$(make -n V=1 "$@" 2>/dev/null | grep -cE -- ' -(c )?o build/')
	[ "$total" -gt 0 ] || return 0
	if ! make -j"$(nproc)" "$@" 2>&1 | tee "$log" | awk '/^  (CC|AR|LINK) / { print ++n; fflush() }' |
		progress "$label" "$total"; then
		tail -n 30 "$log" >&2
		echo "The build failed; all of its output is in $log" >&2
		return 1
	fi
}
