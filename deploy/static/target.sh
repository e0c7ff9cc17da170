# Sourced by build.sh and deploy/packages/stage.sh: the machine that the executable is for, as STATIC_TARGET names it, or
# else this one. What is built for another machine has a name of its own: dist/xtrace-catch-arm64, beside dist/xtrace-catch.
target=${STATIC_TARGET:-}
case $target in
	"") architecture=$(dpkg --print-architecture) suffix= ;;
	aarch64-linux-gnu) architecture=arm64 suffix=-arm64 ;;
	*) echo "static build: STATIC_TARGET $target: unknown (aarch64-linux-gnu, or leave it out)" >&2; exit 2 ;;
esac
