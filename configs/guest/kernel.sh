#!/bin/bash
# Builds a kernel of our own for guests from Debian's linux-source package:
#   kernel.sh BUILD_DIR AGENT_BINARY
#
# Results in BUILD_DIR/guest/own, beside the packaged kernel's and by the same names: vmlinux,
# initramfs.cpio, kernel.release; and kernel.digest, of all that the kernel was made from (this
# script, kernel.config, the source package, compiler and linker). A second call with the same
# digest only packs the agent anew, if that has changed. The daemon uses it with
#   --vm.kernel=BUILD_DIR/guest/own/vmlinux
#
# Some ten minutes on two idle cores, 3 GB below BUILD_DIR meanwhile. An interrupted build goes on
# where it was. The source is looked up once and kept; COPPICE_GUEST_UPDATE=1 looks again.
#
#   COPPICE_KERNEL_JOBS   how many compilers at once   (default: as many as cores)
set -euo pipefail
shopt -s inherit_errexit
exec </dev/null

say() { printf 'kernel: %s\n' "$*"; }
die() { printf 'kernel: %s\n' "$*" >&2; exit 1; }

[ $# -eq 2 ] || die "usage: kernel.sh BUILD_DIR AGENT_BINARY"
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1/guest/own"
out=$(cd "$1/guest/own" && pwd)
agent=$2
[ -f "$agent" ] || die "no agent at $agent: build the target coppice-agent first"
work=$out/work
jobs=${COPPICE_KERNEL_JOBS:-$(nproc)}

# -- what it is made from -------------------------------------------------------------------------

packages=(build-essential flex bison bc libelf-dev xz-utils)

install_missing() {
  local missing=() package
  for package in "${packages[@]}"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
      missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  say "installing ${missing[*]}"
  [ "$(id -u)" = 0 ] || die "packages are missing; as root: apt-get install ${missing[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    "${missing[@]}" >/dev/null
}

find_package() {
  apt-cache depends linux-source 2>/dev/null | sed -n 's/^ *Depends: *\(linux-source-[0-9].*\)$/\1/p'
}

# Version and SHA-256 of the package, as the signed index of the archive has them.
look_up() {
  local package
  package=$(find_package)
  if [ -z "$package" ]; then
    apt-get update -qq || die "apt-get update failed: run it as root, then start again"
    package=$(find_package)
  fi
  [ -n "$package" ] || die "no linux-source in the package index: is this Debian?"
  apt-cache show --no-all-versions "$package" | awk -v package="$package" '
    /^Version: / { version = $2 } /^SHA256: / { sum = $2 } END { print package, version, sum }'
}

digest_of() {
  { cat "$here/kernel.sh" "$here/kernel.config"
    printf '%s\n' "$1"
    gcc --version | head -n 1
    ld --version | head -n 1
  } | sha256sum | cut -c 1-64
}

# -- building it ----------------------------------------------------------------------------------

# fetch PACKAGE VERSION SHA256
fetch() {
  local deb
  say "fetching $1 $2"
  mkdir -p "$work/fetch"
  (cd "$work/fetch" && apt-get download -qq -o APT::Sandbox::User=root "$1=$2") ||
    die "could not download $1 $2: run apt-get update, or look for a newer one with COPPICE_GUEST_UPDATE=1"
  deb=$(find "$work/fetch" -name '*.deb')
  printf '%s  %s\n' "$3" "$deb" | sha256sum --check --status || die "$deb is not what the index names"
  say "unpacking"
  dpkg-deb --fsys-tarfile "$deb" | tar -xO "./usr/src/$1.tar.xz" | xz -dc -T0 | tar -x -C "$work"
  rm -r "$work/fetch"
  touch "$work/$1/.unpacked"
}

# Every line of kernel.config must be in the configuration that came out: one that the kernel does
# not know any more, or whose condition is not met, would be dropped without a word.
check_config() {
  local line lost=no
  while read -r line; do
    case $line in CONFIG_*=*) ;; *) continue ;; esac
    grep -qxF "$line" "$work/obj/.config" && continue
    printf 'kernel: not taken: %s\n' "$line" >&2
    lost=yes
  done <"$here/kernel.config"
  [ $lost = no ] || die "kernel.config does not fit this source"
}

# build SOURCE
build() {
  local make=(make -C "$1" "O=$work/obj" ARCH=x86_64 KBUILD_BUILD_USER=coppice
    KBUILD_BUILD_HOST=coppice "KBUILD_BUILD_TIMESTAMP=Thu Jan  1 00:00:00 UTC 1970")
  unset KBUILD_BUILD_VERSION CROSS_COMPILE KCFLAGS KCPPFLAGS
  export LC_ALL=C
  "${make[@]}" -s allnoconfig "KCONFIG_ALLCONFIG=$here/kernel.config"
  check_config
  say "building with $jobs at once; the log is $work/log"
  "${make[@]}" -s -j "$jobs" vmlinux >"$work/log" 2>&1 ||
    { tail -n 20 "$work/log" >&2; die "the build failed; its log is $work/log"; }
  "${make[@]}" -s kernelrelease >"$out/kernel.release"
  objcopy --strip-all "$work/obj/vmlinux" "$out/vmlinux.new"
}

install_missing
source=$(cat "$out/kernel.source" 2>/dev/null || true)
if [ -z "$source" ] || [ "${COPPICE_GUEST_UPDATE:-0}" = 1 ]; then
  source=$(look_up)
fi
digest=$(digest_of "$source")
if [ "$(cat "$out/kernel.digest" 2>/dev/null)" != "$digest" ] || [ ! -s "$out/vmlinux" ]; then
  began=$SECONDS
  rm -f "$out/kernel.digest"
  mkdir -p "$work"
  # Of an interrupted build for other inputs nothing is taken over.
  if [ "$(cat "$work/digest" 2>/dev/null)" != "$digest" ]; then
    rm -rf "$work" && mkdir "$work"
    echo "$digest" >"$work/digest"
  fi
  read -r package version sum <<<"$source"
  if [ ! -e "$work/$package/.unpacked" ]; then
    rm -rf "${work:?}/$package"
    fetch "$package" "$version" "$sum"
  fi
  build "$work/$package"
  mv "$out/vmlinux.new" "$out/vmlinux"
  echo "$source" >"$out/kernel.source"
  rm -rf "$work"
  echo "$digest" >"$out/kernel.digest"
  say "$(cat "$out/kernel.release") built in $((SECONDS - began)) s: $(stat -c %s "$out/vmlinux") bytes"
else
  say "$(cat "$out/kernel.release") is up to date"
fi

packed=$(sha256sum "$agent" "$here/initramfs.sh" | sha256sum)
if [ "$(cat "$out/initramfs.digest" 2>/dev/null)" != "$packed" ] || [ ! -s "$out/initramfs.cpio" ]; then
  sh "$here/initramfs.sh" "$out" "$agent" >/dev/null
  echo "$packed" >"$out/initramfs.digest"
  say "packed the initramfs"
fi
