#!/bin/sh
# Usage: build.sh [--packages]
# Builds dist/xtrace-catch, one static executable, with its licenses and SBOM. --packages lists the packages it needs.
# `make static` and the Dockerfile run only this script. Tried on Debian 12 and 13. STATIC_TARGET=aarch64-linux-gnu builds
# dist/xtrace-catch-arm64, with that architecture's packages (dpkg --add-architecture arm64).
set -eu
cd "$(dirname "$0")/../.."
. deploy/static/target.sh
python=/usr/bin/python3
work=.static
packages="clang gcc libc6-dev linux-libc-dev dpkg-dev python3 python3-venv python3-dev ca-certificates
	libssl-dev zlib1g-dev libzstd-dev libffi-dev libbluetooth-dev"

if [ "$target" ]; then
	if ! dpkg --print-foreign-architectures | grep -qx "$architecture"; then
		echo "static build: packages for $architecture are not known (dpkg --add-architecture $architecture && apt-get update)" >&2
		exit 2
	fi
	for library in libssl-dev zlib1g-dev libzstd-dev libffi-dev libcrypt-dev libpython3-dev; do
		packages="$packages $library:$architecture"
	done
	packages="$packages gcc-$target"
fi

# Debian 12's rustc is too old for orjson; rustc-web is the newer one packaged for building browsers.
rust() {
	known rustc-web || { test "$(id -u)" = 0 && apt-get -qq update && known rustc-web; } >/dev/null &&
		echo rustc-web cargo-web ${target:+libstd-rust-web-dev:$architecture} || echo rustc cargo ${target:+libstd-rust-dev:$architecture}
}
known() { apt-cache show "$1" >/dev/null 2>&1; }

if [ "${1:-}" = --packages ]; then
	echo $packages $(rust)
	exit
fi
PATH=/usr/bin:/bin # not the user's own toolchain: the SBOM lists the distribution's packages
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || stat -c %Y pyproject.toml)}"
export PATH SOURCE_DATE_EPOCH LC_ALL=C.UTF-8 PIP_DISABLE_PIP_VERSION_CHECK=1
if ! cmp -s deploy/static/tools.txt $work/tools; then
	$python -m venv --clear $work/venv
	$work/venv/bin/pip install --quiet -r deploy/static/tools.txt
	cp deploy/static/tools.txt $work/tools
fi
echo "building dist/xtrace-catch$suffix"
$work/venv/bin/python -B deploy/static/build.py $work "$suffix"
ls -l "dist/xtrace-catch$suffix"
