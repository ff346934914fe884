#!/bin/bash
# Siblings of one image, each importing a few modules of Python: VMs of the plain pool against VMs
# that were prepared for the image (docs/decisions.md, 60).
#
#   tests/bench/start_warm.sh [RUNS [TOTALS [SIBLINGS]]]
#
# The image is Debian with Python and some libraries, 500 MB. Rows of single runs are interleaved;
# each is from the request to the durable new image, and of processor time only what QEMU took for
# it and the engine (a mean). "all" is SIBLINGS of them asked for at once, as many at a time as there are cores; the plain
# pool has four VMs waiting then, as many as it keeps. The bar counts the making of the template,
# the line above it does not.
set -euo pipefail
shopt -s inherit_errexit

runs=${1:-30}
totals=${2:-3}
siblings=${3:-32}
ninja -C build warm_bench >/dev/null
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

raw=build/bench-cache/python-500.raw
if [ ! -f "$raw" ]; then
  mkdir -p build/bench-cache "$work/root"
  mmdebstrap --quiet --variant=minbase \
    --include=python3,python3-numpy,python3-sympy,python3-sqlalchemy,python3-lxml,python3-cryptography,python3-requests \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    bookworm "$work/root" >&2 </dev/null
  mke2fs -q -t ext4 -b 4096 -O ^has_journal,^resize_inode \
    -E assume_storage_prezeroed=1,lazy_itable_init=0 -d "$work/root" "$raw.new" 64G >&2
  mv "$raw.new" "$raw"
  rm -rf "$work/root"
fi

command="python3 -c 'import json, re, asyncio, http.client, email, unittest, decimal, xml.dom.minidom, numpy'"
echo "image: $(du -m "$raw" | cut -f 1) MiB; load of the machine: $(cut -d ' ' -f 1-3 /proc/loadavg)"
build/tests/bench/warm_bench "$work" "$PWD/build/guest" "$raw" "$command" "$runs" "$totals" "$siblings"
