#!/bin/sh
# Usage: install.sh TARGET PACKAGE...
# Installs what is missing of these packages, which have Debian's names here; names.txt has those of other distributions.
# Only as root: others are told to make TARGET. Run by make.
set -eu
target=$1
shift

manager=
for known in apt-get dnf zypper apk pacman; do
	if command -v $known >/dev/null; then
		manager=$known
		break
	fi
done

# Its name there, empty if it needs none, "?" if nobody has looked it up.
name_of() {
	awk -v manager=$manager -v package="$1" '
		$1 == "#" && $2 == "apt-get" { for (i = 2; i <= NF; i++) if ($i == manager) column = i - 1 }
		$1 == package { found = $column }
		END { print found == "-" ? "" : found == "" ? "?" : found }' "$(dirname "$0")/names.txt"
}

is_installed() {
	case $manager in
		apt-get) dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed' ;;
		dnf | zypper) rpm -q --whatprovides "$1" >/dev/null 2>&1 ;;
		apk) apk info -e "$1" >/dev/null 2>&1 ;;
		pacman) pacman -Q "$1" >/dev/null 2>&1 ;;
	esac
}

install_all() {
	case $manager in
		apt-get) apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$@" ;;
		dnf) dnf -q install -y "$@" ;;
		zypper) zypper -q --non-interactive install --no-recommends "$@" ;;
		apk) apk add -q "$@" ;;
		pacman) pacman -S --noconfirm --needed "$@" ;;
	esac
}

missing= unknown=
for package; do
	name=$package
	test "$manager" = apt-get || name=$(name_of "$package")
	if [ "$name" = "?" ] || [ -z "$manager" ]; then
		unknown="$unknown$package "
	elif [ -n "$name" ] && ! is_installed "$name"; then
		missing="$missing$name "
	fi
done
if [ -n "$unknown" ]; then
	echo "make: install your distribution's packages for: $unknown(these are Debian's names)" >&2
	exit 1
fi
test -n "$missing" || exit 0
if [ "$(id -u)" != 0 ]; then
	echo "make: missing packages: $missing(run 'sudo make $target', or install them)" >&2
	exit 1
fi
echo "installing: $missing"
install_all $missing >/dev/null
