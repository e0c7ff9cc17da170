#!/bin/sh
# Usage: apt-source.sh PACKAGE VERSION CACHE TARGET
# Downloads a source package from the archive of the distribution's binary packages, without changing the system's list
# of sources. If the archive does not have VERSION, another revision of the same upstream version is used.
set -eu
package=$1 version=$2 cache=$3 target=$4
mkdir -p "$cache/lists/partial" "$cache/archives/partial"
: >"$cache/status"

# "python3.11 | 3.11.2-6 | http://host/debian bookworm/main amd64 Packages" -> a line of source packages
apt-cache madison "$package" | awk -F' *[|] *' '{
	split($3, where, " "); split(where[2], part, "/")
	print "deb-src", where[1], part[1], part[2]
}' | sort -u >"$cache/sources.list"
test -s "$cache/sources.list" || { echo "$package: apt knows no archive of it: run apt-get update" >&2; exit 1; }

with_cache() {
	"$@" -o Dir::Etc::SourceList="$cache/sources.list" -o Dir::Etc::SourceParts=/dev/null \
		-o Dir::State="$cache" -o Dir::State::status="$cache/status" -o Dir::Cache="$cache" \
		-o APT::Sandbox::User=root -o Acquire::Languages=none
}
with_cache apt-get -qq update
cd "$cache"
revisions=$(with_cache apt-cache showsrc "$package" | sed -n "s/^Version: \(${version%-*}-.*\)/\1/p" | sort -rV)
for revision in $version $revisions; do
	if with_cache apt-get -qq source --download-only "$package=$revision"; then
		test "$revision" = "$version" || echo "$package: source of $revision taken for $version" >&2
		rm -rf "$target.new"
		dpkg-source --no-check -x "${package}_${revision#*:}.dsc" "$target.new" >/dev/null
		mv "$target.new" "$target"
		exit
	fi
done
echo "$package $version: no source in the archive: upgrade lib$package-dev" >&2
exit 1
