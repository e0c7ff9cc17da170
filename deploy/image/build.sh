#!/bin/sh
# Usage: build.sh --install | DIRECTORY
# Makes the image's root for each platform, in DIRECTORY/amd64 and DIRECTORY/arm64; --install installs what that takes.
# PLATFORM names them as engines do: linux/amd64, linux/arm64, or both with a comma; unset, it is this machine's. On amd64
# the executable for arm64 is cross-built. Run by the Dockerfile alone.
set -eu
cd "$(dirname "$0")/../.."
own=$(dpkg --print-architecture)
architectures=
for platform in $(echo "${PLATFORM:-linux/$own}" | tr , ' '); do
	case $platform in
		linux/$own | linux/arm64) architectures="$architectures ${platform#linux/}" ;;
		*) echo "image: PLATFORM $platform: cannot be built on $own (linux/$own or linux/arm64)" >&2; exit 2 ;;
	esac
done

# For the architecture $1.
static() {
	STATIC_TARGET=$(test "$1" = "$own" || echo aarch64-linux-gnu) deploy/static/build.sh $2
}

install() {
	for architecture in $architectures; do
		dpkg --add-architecture "$architecture"
	done
	apt-get -qq update
	packages=$(for architecture in $architectures; do static "$architecture" --packages; done)
	DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $packages >/dev/null
}

# The root of architecture $1, in directory $2. What this machine can run is run in the otherwise empty root, where
# anything the executable lacks is missing.
root() {
	suffix=$(test "$1" = "$own" || echo "-$1")
	mkdir -p "$2/etc/ssl/certs" "$2/sbom"
	cp "dist/xtrace-catch$suffix" "$2/xtrace-catch"
	if [ -z "$suffix" ]; then
		chroot "$2" /xtrace-catch --version
		chroot "$2" /xtrace-catch --help >/dev/null
	fi
	cp "dist/xtrace-catch$suffix.cdx.json" "$2/sbom/xtrace-catch.cdx.json"
	cp -r "dist/licenses$suffix" "$2/licenses"
	cp /usr/share/doc/ca-certificates/copyright "$2/licenses/ca-certificates"
	cp /etc/ssl/certs/ca-certificates.crt "$2/etc/ssl/certs/"
}

if [ "$1" = --install ]; then
	install
	exit
fi
for architecture in $architectures; do
	static "$architecture" ""
	root "$architecture" "$1/$architecture"
done
