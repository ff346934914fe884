#!/bin/bash
# The storage engine (docs/benchmarks.md says what each row means).
#
#   tests/bench/run.sh storage [PART...]     chain seal serve runs guest catalog; all by default
set -euo pipefail
shopt -s inherit_errexit

parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(chain seal serve runs guest catalog)
ninja -C build storage_bench seal_bench >/dev/null
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Debian with Python and its scientific libraries, some 500 MB, as the ext4 that an import makes.
base_image() {
  local raw=build/bench-cache/python.raw
  if [ ! -f "$raw" ]; then
    mkdir -p build/bench-cache "$work/root"
    mmdebstrap --quiet --variant=minbase --include=python3,python3-scipy,python3-pandas \
      bookworm "$work/root" >&2
    mke2fs -q -t ext4 -b 4096 -O ^has_journal,^resize_inode \
      -E assume_storage_prezeroed=1,lazy_itable_init=0 -d "$work/root" "$raw.new" 64G >&2
    mv "$raw.new" "$raw"
    rm -rf "$work/root"
  fi
  echo "$raw"
}

fresh() {
  rm -rf "$work/state"
  mkdir "$work/state"
}

for part in "${parts[@]}"; do
  printf '\n== %s\n' "$part"
  case $part in
    chain)
      raw=$(base_image)
      du -h "$raw"
      fresh
      ulimit -n 4096
      # One core for client and server: a wake-up across cores costs more than a request here, and
      # comes and goes with the scheduler's mood.
      taskset -c 0 build/tests/bench/storage_bench chain "$work/state" "$raw"
      ;;
    seal)
      raw=$(base_image)
      fresh
      build/tests/bench/storage_bench seal "$work/state" "$raw"
      fresh
      build/tests/bench/seal_bench "$work/state" "$raw"
      ;;
    serve) bash tests/bench/storage_serve.sh ;;
    runs) bash tests/bench/storage_runs.sh ;;
    guest) bash tests/bench/storage_guest.sh ;;
    catalog) bash tests/bench/storage_catalog.sh ;;
    *) echo "no such part: $part" >&2; exit 2 ;;
  esac
done
