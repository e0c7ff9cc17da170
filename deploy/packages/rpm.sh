#!/bin/sh
# Packs the static executable as dist/xtrace-catch-VERSION-1.ARCHITECTURE.rpm, with rpmbuild. Run by `make rpm`.
set -eu
cd "$(dirname "$0")/../.."
. deploy/packages/stage.sh
work=.packages/rpm
rm -rf $work
stage $work/files
case $architecture in amd64) machine=x86_64 ;; arm64) machine=aarch64 ;; esac
rpmbuild -bb --quiet --target $machine --define "_topdir $PWD/$work" --define "version $version" --define "staged $PWD/$work/files" \
	--define "_buildhost localhost" --define "use_source_date_epoch_as_buildtime 1" \
	--define "clamp_mtime_to_source_date_epoch 1" deploy/packages/xtrace-catch.spec >$work/log 2>&1 ||
	{ cat $work/log >&2; exit 1; }
mv $work/RPMS/*/*.rpm dist/
