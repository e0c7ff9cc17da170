# Sourced by other-release, packages, musl and newcomer, in the root of the tree, with `set -euo pipefail`: fresh roots
# of releases of Debian and Ubuntu. XTRACE_VM_MIRROR names a mirror of Debian where the machine's own apt has none. A
# pristine root is kept for a month.
export DEBIAN_FRONTEND=noninteractive PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
AUTHORITIES=/etc/authorities.pem

# A directory that goes with this script; $root in it is a root of $1 that reaches what this machine reaches. A suite is
# this machine's architecture's, or bookworm-arm64, whose programs qemu's user emulation runs (binfmt_misc).
fresh_root() {
	suite=$1
	needed debootstrap debian-archive-keyring
	case $suite in *-arm64) needs_emulation ;; esac
	scratch=$(mktemp -d "${TMPDIR:-/var/tmp}/xtrace-root.XXXXXX")
	trap 'rm -rf --one-file-system "$scratch"' EXIT
	trap 'exit 1' INT TERM HUP
	root=$scratch/$suite
	kept "$suite" "$root" new_root
	settings
}

# Programs for arm64 run here.
needs_emulation() {
	needed qemu-user-static
	local place=/proc/sys/fs/binfmt_misc
	grep -qsx enabled $place/qemu-aarch64 && return
	echo "$0: no programs for arm64 run here (systemctl restart systemd-binfmt; where systemd does not run:" \
		"mount -t binfmt_misc binfmt_misc $place && /usr/lib/systemd/systemd-binfmt)" >&2
	exit 2
}

# Installs what this machine lacks of these packages.
needed() {
	local missing
	missing=$(for p in "$@"; do dpkg-query -W "$p" >/dev/null 2>&1 || echo "$p"; done)
	test -z "$missing" || { apt-get -qq update && apt-get -qq install -y $missing >/dev/null; }
}

# Directory $2 as it is kept under the name $1; without, or after a month, what the rest, a command, makes of it.
kept() {
	local archive=${XDG_CACHE_HOME:-$HOME/.cache}/xtrace-catch/roots/$1.tar directory=$2
	shift 2
	mkdir -p "${archive%/*}" "$directory"
	if [ -n "$(find "$archive" -mtime -30 2>/dev/null)" ]; then
		tar -C "$directory" -xf "$archive"
	else
		"$@"
		tar -C "$directory" -cf "$archive.new" . && mv "$archive.new" "$archive" # a part is never taken for all
	fi
}

new_root() {
	case $suite in
		bookworm* | trixie* | sid*) debian_root ;;
		*) ubuntu_root ;;
	esac >"$scratch/log" 2>&1 || { tail -20 "$scratch/log" >&2; exit 1; }
}

debian_root() {
	local mirror
	mirror=$(python3 -B -c 'from tests.vm.debian import mirror; print(mirror())') &&
		debootstrap --variant=minbase --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
			$(case $suite in *-arm64) echo --arch=arm64 ;; esac) "${suite%-arm64}" "$root" "$mirror"
}

# From XTRACE_UBUNTU_MIRROR, else from debootstrap's default. Its keys are in a package of Debian 13.
ubuntu_root() {
	local keyring=/usr/share/keyrings/ubuntu-archive-keyring.gpg
	if [ ! -e $keyring ]; then
		python3 -B - "$scratch/apt" "$scratch/keys" <<-END && keyring=$scratch/keys$keyring || return
			import sys
			from pathlib import Path
			from tests.vm.architecture import AMD64
			from tests.vm.debian import Suite, unpack

			trixie = Suite("trixie", AMD64, Path(sys.argv[1]))
			trixie.update()
			unpack(trixie.fetch_with_dependencies(["ubuntu-keyring"]), Path(sys.argv[2]))
		END
	fi
	debootstrap --variant=minbase --components=main,universe --keyring="$keyring" "$suite" "$root" \
		"${XTRACE_UBUNTU_MIRROR:-}" gutsy # the script for all of Ubuntu's
}

# What this machine needs to reach its mirror and its package index: names, proxies, authorities (what ca-certificates
# installs in the root knows none of this machine's own). pip's index and proxy are taken from PIP_* alone.
settings() {
	local name
	for name in Acquire::http Acquire::https Acquire::Retries Acquire::Check-Valid-Until Acquire::Check-Date; do
		apt-config dump $name
	done >"$root/etc/apt/apt.conf.d/90machine"
	cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
	local authorities=/etc/ssl/certs/ca-certificates.crt
	test ! -e $AUTHORITIES || authorities=$AUTHORITIES # this machine is such a root itself
	if [ -e $authorities ]; then
		cp -L $authorities "$root$AUTHORITIES"
		echo "Acquire::https::CaInfo \"$AUTHORITIES\";" >>"$root/etc/apt/apt.conf.d/90machine"
	fi
}

# Runs a command in root $1, with mounts that this process and its children alone see, and that go with them: nothing is
# removed through one. Call it under `unshare --mount --fork --kill-child`, with --pid where nothing needs the machine's
# process numbers.
mounted() {
	local root=$1
	shift
	mount --bind "$root" "$root" # a root that is no mount point is none to `ip netns exec`
	mount --rbind /dev "$root/dev"
	mount --rbind /sys "$root/sys"
	mount -t proc proc "$root/proc"
	mount -t tmpfs tmpfs "$root/run"
	test ! -e "$root$AUTHORITIES" || export PIP_CERT=$AUTHORITIES REQUESTS_CA_BUNDLE=$AUTHORITIES
	unset TMPDIR # a place of the machine
	exec chroot "$root" "$@"
}

# What a user does first: $1 is the command. Emulation has no BPF.
works() {
	"$1" --version
	"$1" -l
	"$1" --help >/dev/null
	test -z "${EMULATED:-}" || return 0
	"$1" -i lo -t 100ms -c 3 -o json >/tmp/records 2>/tmp/said || { cat /tmp/said; exit 1; }
	tail -n 1 /tmp/records | grep -o '"intervals":3'
}
