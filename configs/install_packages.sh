#!/bin/bash
# The Debian 12 packages that Coppice needs, in one place: says which are missing and installs them.
#
#   configs/install_packages.sh          to build and run it
#   configs/install_packages.sh test     also what tests/run.sh uses
#   configs/install_packages.sh --missing [test]   only prints what it would install
set -euo pipefail
exec </dev/null

build=(
  build-essential cmake ninja-build pkg-config
  capnproto libcapnp-dev                  # schemas: messages, records, guest channel
  libcaf-dev                              # the actor system
  libboost1.81-dev libboost-json1.81-dev libboost-url1.81-dev libboost-test1.81-dev
  libcli11-dev libspdlog-dev libssl-dev zlib1g-dev
  liblmdb-dev                             # the catalog
  prometheus-cpp-dev                      # the text of /metrics (its core only)
  liburing-dev                            # the disks' input and output
  libarchive-dev libext2fs-dev comerr-dev # layers in, ext4 out
  libre2-dev                              # searching the files of images
)
run=(
  qemu-system-x86 qemu-utils              # the microVMs
  e2fsprogs skopeo ca-certificates        # making file systems, fetching images
  busybox-static                          # the base image
  cpio lz4                                # the guest's kernel and initramfs
  curl jq                                 # quickstart.sh speaks HTTP with them
)
test=(
  clang-14 libclang-rt-14-dev clang-format-14
  docker-registry mmdebstrap              # a real registry, a real image
  git python3 python3-venv procps strace
)

wanted=("${build[@]}" "${run[@]}")
only_print=no
for argument in "$@"; do
  case $argument in
    test) wanted+=("${test[@]}") ;;
    --missing) only_print=yes ;;
    *) echo "usage: configs/install_packages.sh [--missing] [test]" >&2; exit 2 ;;
  esac
done
missing=()
# npm may have come with a Node.js that is not Debian's, beside which Debian's cannot be installed.
command -v npm >/dev/null || wanted+=(npm)
for package in "${wanted[@]}"; do
  state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$state" = installed ] || missing+=("$package")
done
if [ "$only_print" = yes ]; then
  echo "${missing[*]}"
  exit 0
fi
if [ ${#missing[@]} -eq 0 ]; then
  echo "all ${#wanted[@]} packages are installed"
  exit 0
fi
echo "installing: ${missing[*]}"
if [ "$(id -u)" != 0 ]; then
  echo "installing packages needs root; run as root: apt-get install ${missing[*]}" >&2
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q -y --no-install-recommends "${missing[@]}"
