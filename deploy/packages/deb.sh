#!/bin/sh
# Packs the static executable as dist/xtrace-catch_VERSION-1_ARCHITECTURE.deb, with debhelper; lintian judges it. Run by
# `make deb`.
set -eu
cd "$(dirname "$0")/../.."
. deploy/packages/stage.sh
work=.packages/deb
tree=$work/xtrace-catch-$version
rm -rf $work
stage "$tree"
cp -r deploy/packages/debian "$tree/"
mv "$tree/xtrace-catch.service" "$tree/xtrace-catch.default" "$tree/debian/"
cat >"$tree/debian/changelog" <<END
xtrace-catch ($version-1) unstable; urgency=medium

  * The changes are in CHANGELOG.md.

 -- $(sed -n 's/^Maintainer: //p' deploy/packages/debian/control)  $(date -u -R -d "@$SOURCE_DATE_EPOCH")
END
# nothing is compiled: build-essential, which each package depends on, is not needed
(cd "$tree" && dpkg-buildpackage --build=binary --no-check-builddeps --unsigned-changes --no-sign >../log 2>&1) ||
	{ cat $work/log >&2; exit 1; }
lintian --fail-on error,warning --tag-display-limit 0 $work/*.changes
mv $work/*.deb dist/
