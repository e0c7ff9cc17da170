# Sourced by deb.sh and rpm.sh, in the root of the tree: what both packages contain, in directory $1.
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml | sed 's/rc/~rc/') # ~ sorts before the release
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || stat -c %Y pyproject.toml)}"
export SOURCE_DATE_EPOCH

stage() {
	test -x dist/xtrace-catch || { echo "make: dist/xtrace-catch is missing (make static)" >&2; exit 1; }
	mkdir -p "$1/bash"
	cp -r dist/xtrace-catch dist/xtrace-catch.cdx.json dist/licenses CHANGELOG.md docs/man/xtrace-catch.8 \
		deploy/completion/_xtrace-catch deploy/completion/xtrace-catch.fish \
		deploy/systemd/xtrace-catch.service deploy/systemd/xtrace-catch.default "$1"
	cp deploy/completion/xtrace-catch.bash "$1/bash/xtrace-catch"
}
