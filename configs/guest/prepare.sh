#!/bin/sh
# Makes what a microVM boots from: prepare.sh BUILD_DIR AGENT_BINARY
#
# Results in BUILD_DIR/guest:
#   vmlinux           Debian's cloud kernel, uncompressed where its payload is LZ4 (starts faster
#                     through PVH), else the bzImage as it is; QEMU's -kernel takes either
#   initramfs.cpio    the agent and the kernel's modules (initramfs.sh)
#   kernel.release    the kernel's version, as uname -r says it in the guest
#
# The kernel package is only unpacked below BUILD_DIR, never installed on this machine. A second
# call with the same kernel package and the same agent does nothing.
set -eu

say() { printf 'guest: %s\n' "$*"; }
die() { printf 'guest: %s\n' "$*" >&2; exit 1; }

[ $# -eq 2 ] || die "usage: prepare.sh BUILD_DIR AGENT_BINARY"
mkdir -p "$1/guest"
guest=$(cd "$1/guest" && pwd)
agent=$2
own=$(cd "$(dirname "$0")" && pwd)
[ -f "$agent" ] || die "no agent at $agent: build the target coppice-agent first"

PATH=$PATH:/usr/sbin:/sbin
for tool in apt-cache apt-get dpkg dpkg-deb lz4 sha256sum; do
  command -v "$tool" >/dev/null || die "$tool is missing: install apt, dpkg, lz4, coreutils"
done

# -- which kernel -------------------------------------------------------------------------------

find_package() {
  apt-cache depends linux-image-cloud-amd64 2>/dev/null |
    sed -n 's/^ *Depends: *\(linux-image-[0-9][^ ]*\)$/\1/p' | head -n 1
}

# The version is looked up only when nothing is there yet or COPPICE_GUEST_UPDATE=1 asks for it: a
# rebuild of the agent must not change the kernel under images and templates, nor need an index.
pinned=$(cat "$guest/kernel.package" 2>/dev/null || true)
deb=
if [ -n "$pinned" ] && [ "${COPPICE_GUEST_UPDATE:-0}" != 1 ]; then
  deb=$guest/${pinned##*/}
  [ -f "$deb" ] || deb=
fi
if [ -z "$deb" ]; then
  package=$(find_package)
  if [ -z "$package" ]; then
    say "the package index does not know linux-image-cloud-amd64: running apt-get update"
    apt-get update -qq || die "apt-get update failed: run it as root, then start again"
    package=$(find_package)
  fi
  [ -n "$package" ] || die "no linux-image-cloud-amd64 in the package index: is this Debian on amd64?"
fi

key=$( { cat "$0" "$own/initramfs.sh"; sha256sum < "$agent"; } | sha256sum | cut -c 1-64 )
stamp=$guest/stamp
if [ -n "$deb" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$pinned $key" ] &&
   [ -s "$guest/vmlinux" ] && [ -s "$guest/initramfs.cpio" ] && [ -s "$guest/kernel.release" ]; then
  touch "$stamp"
  say "kernel $(cat "$guest/kernel.release") and initramfs are up to date"
  exit 0
fi
rm -f "$stamp"

if [ -z "$deb" ]; then
  say "fetching $package"
  rm -rf "$guest/fetch" && mkdir "$guest/fetch"
  (cd "$guest/fetch" && apt-get download -qq -o APT::Sandbox::User=root "$package") ||
    die "could not download $package: check the network and the apt sources, then start again"
  deb=$(find "$guest/fetch" -name '*.deb' | head -n 1)
  [ -n "$deb" ] || die "apt-get downloaded nothing for $package"
  mv "$deb" "$guest/" && deb=$guest/${deb##*/}
  rm -rf "$guest/fetch" "$guest/kernel" "$guest/kernel.package"
  echo "${deb##*/}" > "$guest/kernel.package"
fi
pinned=$(cat "$guest/kernel.package")

# -- the kernel ---------------------------------------------------------------------------------

# bzImage with an LZ4 payload -> ELF. Offsets from the Linux x86 boot protocol: setup_sects at
# 0x1f1, payload_offset at 0x248, payload_length at 0x24c; the payload ends with its own size.
u8() { od -An -t u1 -j "$2" -N 1 "$1" | tr -d ' '; }
u32() { od -An -t u4 --endian=little -j "$2" -N 4 "$1" | tr -d ' '; }
extract_vmlinux() {
  base=$(( ($(u8 "$1" 497) + 1) * 512 ))
  offset=$(( base + $(u32 "$1" 584) ))
  length=$(( $(u32 "$1" 588) - 4 ))
  [ "$length" -gt 0 ] || return 1
  tail -c "+$((offset + 1))" "$1" | head -c "$length" | lz4 -q -d -c > "$2" 2>/dev/null || true
  [ "$(head -c 4 "$2" | od -An -t x1 | tr -d ' ')" = 7f454c46 ] &&
    [ "$(stat -c %s "$2")" -gt 8388608 ]
}

if [ ! -d "$guest/kernel/lib/modules" ] || [ ! -s "$guest/vmlinux" ]; then
  say "unpacking $pinned"
  rm -rf "$guest/kernel" && mkdir "$guest/kernel"
  dpkg -x "$deb" "$guest/kernel" || die "$deb is damaged: remove it and start again"
  image=$(find "$guest/kernel/boot" -name 'vmlinuz-*' | head -n 1)
  [ -n "$image" ] || die "$pinned holds no kernel image"
  say "extracting vmlinux"
  if ! extract_vmlinux "$image" "$guest/vmlinux.new"; then
    say "its payload is not an LZ4 packed ELF file: taking the bzImage"
    cp "$image" "$guest/vmlinux.new"
  fi
  mv "$guest/vmlinux.new" "$guest/vmlinux"
  printf '%s\n' "${image##*/vmlinuz-}" > "$guest/kernel.release"
fi
modules=$guest/kernel/lib/modules/$(cat "$guest/kernel.release")
[ -d "$modules" ] || die "$pinned holds no modules in $modules"

# -- the initramfs ------------------------------------------------------------------------------

say "packing the initramfs"
sh "$own/initramfs.sh" "$guest" "$agent" "$modules"

# A kernel of our own (kernel.sh), if there is one, gets the same agent.
if [ -s "$guest/own/vmlinux" ]; then
  sh "$own/initramfs.sh" "$guest/own" "$agent"
fi

printf '%s' "$pinned $key" > "$stamp"
say "kernel $(cat "$guest/kernel.release"), at start $(tr '\n' ' ' < "$guest/initramfs/modules/order")"
say "initramfs of $(( $(stat -c %s "$guest/initramfs.cpio") / 1024 )) KiB in $guest"
