#!/bin/bash
# What the cluster size of a qcow2 file costs and gains, by QEMU's own code: the space of small
# changes to a 64 GiB disk, the tables of 500 MiB, and the speed of reading them from the page cache.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

mib=500
rounds=8 # of sequential reads
reads=200000
# Odd and no multiple of five, so that each block comes once before any comes twice.
step=$((48271 * 4096))

write() { # FILE OFFSET LENGTH...
  local file=$1 commands=()
  shift
  while [ $# -gt 0 ]; do
    commands+=(-c "write -P 7 $1 $2")
    shift 2
  done
  qemu-io -f qcow2 "${commands[@]}" "$file" >/dev/null
}

fill() { # FILE: 500 MiB, in order
  local ranges=() at
  for at in $(seq 0 50 $((mib - 50))); do
    ranges+=("${at}M" 50M)
  done
  write "$1" "${ranges[@]}"
}

allocated_kib() {
  sync -f "$1"
  echo $(($(stat -c %b "$1") / 2))
}

# median of three runs of qemu-img bench, in seconds
seconds() {
  for _ in 1 2 3; do
    qemu-img bench -f qcow2 "$@" | sed -n 's/^Run completed in \([0-9.]*\) seconds.*/\1/p'
  done | sort -n | sed -n 2p
}

echo "| cluster | one 4 KiB write, KiB | 5 blocks in 3 regions, KiB | tables of $mib MiB, KiB | sequential 256 KiB reads, MiB/s | random 4 KiB reads, 1/s |"
echo "|---|---|---|---|---|---|"
for cluster in 4k 16k 64k; do
  qemu-img create -q -f qcow2 -o "cluster_size=$cluster" base 64G
  fill base
  for name in one five; do
    qemu-img create -q -f qcow2 -o "cluster_size=$cluster" -b base -F qcow2 "$name"
  done
  write one 8k 4k
  write five 0 4k 1M 4k 17G 4k "$((17 * 1024 * 1024 + 4))k" 4k 33G 4k
  # Another disk of just the data: the bench goes round at its end.
  qemu-img create -q -f qcow2 -o "cluster_size=$cluster" full "${mib}M"
  fill full
  sequential=$(seconds -c $((rounds * mib * 4)) -s 256k full)
  random=$(seconds -c $reads -s 4k -S $step full)
  echo "| ${cluster%k} KiB | $(allocated_kib one) | $(allocated_kib five) | $(($(allocated_kib base) - mib * 1024)) | $(
    awk -v s="$sequential" -v m=$((rounds * mib)) 'BEGIN { printf "%.0f", m / s }') | $(
    awk -v s="$random" -v n=$reads 'BEGIN { printf "%.0f", n / s }') |"
  rm -f base one five full
done
