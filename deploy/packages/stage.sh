# Sourced by deb.sh and rpm.sh, in the root of the tree: what both packages contain, in directory $1, for $architecture.
. deploy/static/target.sh
executable=dist/xtrace-catch$suffix
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml | sed 's/rc/~rc/') # ~ sorts before the release
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || stat -c %Y pyproject.toml)}"
export SOURCE_DATE_EPOCH

# The architecture of an executable, by its ELF header (e_machine, elf(5)).
machine_of() {
	case $(od -An -tu1 -j18 -N2 "$1" | tr -s ' ') in
		" 62 0") echo amd64 ;;
		" 183 0") echo arm64 ;;
		*) echo another machine ;;
	esac
}

refuse() {
	echo "make: $executable $* (make static${target:+ STATIC_TARGET=$target})" >&2
	exit 1
}

stage() {
	test -x $executable || refuse "is missing"
	test "$(machine_of $executable)" = $architecture || refuse "is not for $architecture but for $(machine_of $executable)"
	echo "packing $executable"
	mkdir -p "$1/bash"
	cp $executable "$1/xtrace-catch"
	cp $executable.cdx.json "$1/xtrace-catch.cdx.json"
	cp -r dist/licenses$suffix "$1/licenses"
	cp CHANGELOG.md docs/man/xtrace-catch.8 deploy/completion/_xtrace-catch deploy/completion/xtrace-catch.fish \
		deploy/systemd/xtrace-catch.service deploy/systemd/xtrace-catch.default "$1"
	cp deploy/completion/xtrace-catch.bash "$1/bash/xtrace-catch"
}
