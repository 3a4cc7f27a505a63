# shellcheck shell=bash
# Sourced by fresh.sh and booted.sh: a bare Debian 12, made by debootstrap, in a directory of its own. Needs root; takes the
# mirror and the proxy from this machine's apt. The bare system is kept as build/fresh/base.tar.

suite=bookworm
checkout=$PWD
logs=$checkout/build/fresh

fail() {
	echo "$(basename "$0"): $1" >&2
	exit 1
}

# In every program that is started in it: nothing of this machine's, but what reaches the registries.
inside_environment=(HOME=/root LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)
for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
	[ -z "${!name:-}" ] || inside_environment+=("$name=${!name}")
done
command -v npm >/dev/null && inside_environment+=("npm_config_registry=$(npm config get registry 2>/dev/null)")

# unpack_bare DIRECTORY: a bare system in this empty directory, which gets the way to the mirror, and the resolver.
unpack_bare() {
	local system=$1 base=$logs/base.tar mirror signed
	[ "$(id -u)" = 0 ] || fail "needs root"
	command -v debootstrap >/dev/null || fail "needs debootstrap: apt-get install debootstrap"
	mkdir -p "$logs"
	if [ ! -s "$base" ]; then
		mirror=$(apt-get indextargets --format '$(SITE) $(RELEASE) $(COMPONENT)' | awk -v suite=$suite '$2 == suite && $3 == "main" { print $1; exit }')
		[ -n "$mirror" ] || fail "apt names no mirror for $suite"
		echo "Making a bare Debian ($suite)"
		debootstrap --variant=minbase --include=git,ca-certificates "$suite" "$system" "$mirror" >"$logs/debootstrap.log" 2>&1 ||
			fail "debootstrap failed: see $logs/debootstrap.log"
		tar cf "$base.new" -C "$system" .
		mv "$base.new" "$base"
	else
		tar xf "$base" -C "$system"
	fi
	chmod 0755 "$system" # the root of everybody who runs in it
	rm -rf "$system/etc/apt/sources.list.d" "$system/etc/apt/apt.conf.d" "$system/etc/apt/trusted.gpg.d"
	cp -aL /etc/apt/. "$system/etc/apt/"
	rm -f "$system/etc/resolv.conf"
	cp -L /etc/resolv.conf /etc/hosts "$system/etc/"
	[ ! -d /usr/local/share/ca-certificates ] || cp -aL /usr/local/share/ca-certificates/. "$system/usr/local/share/ca-certificates/"
	for signed in /usr/share/keyrings/*; do
		[ -e "$system$signed" ] || cp -L "$signed" "$system/usr/share/keyrings/"
	done
}
