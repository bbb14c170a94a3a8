#!/bin/sh
# Installs the Debian packages that building, running and testing need and that
# are not there yet; "deps.sh vm" also those of the long virtual-machine stories.
# Prints nothing when all are.
set -eu

build="gzip squashfs-tools xorriso mtools dosfstools e2fsprogs grub-common kmod zstd xz-utils cpio gdisk
  gcc libc6-dev gcc-aarch64-linux-gnu libc6-dev-arm64-cross ca-certificates"
run="qemu-system-x86 qemu-system-arm qemu-utils ovmf qemu-efi-aarch64 ipxe-qemu"
test="iproute2 nftables kmod openssh-client git util-linux libseccomp-dev pkgconf fdisk minisign cryptsetup-bin grub-emu docker-registry xdelta3 casync sqlite3 qemu-system-common"
vm=""
# A Debian of another architecture is set up by its own programs.
[ "${1:-}" != vm ] || vm="mmdebstrap arch-test qemu-user-static binfmt-support"

missing=""
for p in $build $run $test $vm; do
	dpkg-query -W -f '${db:Status-Abbrev}' "$p" 2>/dev/null | grep -q '^ii' || missing="$missing $p"
done
if ! command -v go >/dev/null; then
	echo "deps: go is not installed: install Go 1.26 or newer" >&2
	exit 1
fi
[ -n "$missing" ] || exit 0
if [ "$(id -u)" -ne 0 ]; then
	echo "deps: these Debian packages are missing; install them with: sudo apt-get install$missing" >&2
	exit 1
fi
echo "deps: installing$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # the list is meant to split
apt-get install -y -qq --no-install-recommends $missing >/dev/null
