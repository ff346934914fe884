#!/bin/bash
# What a served disk costs a request, beside qemu-storage-daemon: both serve the same sealed qcow2
# file of allocated clusters, which lies in the page cache, over NBD on a unix socket; writes go to a
# new overlay over it. The client is `qemu-img bench`; its step spreads the requests over the file.
# Runs are interleaved, so that a busy moment of the machine meets them all. CPU is the server's.
#
#   tests/bench/storage_serve.sh [RUNS]
set -euo pipefail
shopt -s inherit_errexit

runs=${1:-5}
ninja -C build storage_bench >/dev/null
work=$(mktemp -d)
declare -A pid
stop() {
  kill "${pid[@]}" 2>/dev/null || true
  wait 2>/dev/null || true
  pid=()
}
trap 'stop; rm -rf "$work"' EXIT

# An ext4 with one file of 1.25 GiB: from `first` on its clusters are that file's.
mkdir "$work/root"
openssl enc -aes-128-ctr -K 0123456789abcdef0123456789abcdef -iv 0 -in /dev/zero 2>/dev/null |
  head -c 1280M >"$work/root/file" || true
mke2fs -q -t ext4 -b 4096 -O ^has_journal,^resize_inode \
  -E assume_storage_prezeroed=1,lazy_itable_init=0 -d "$work/root" "$work/raw" 64G 2>/dev/null
rm -r "$work/root"
first=$((160 << 20))

ours() {
  mkdir "$work/state"
  build/tests/bench/storage_bench serve "$work/state" "$work/raw" "$work/ours" >"$work/base" &
  pid[ours]=$!
  until [ -s "$work/base" ]; do sleep 0.1; done
}
storage_daemon() {
  local name=$1 aio=$2 base
  base=$(cat "$work/base")
  rm -f "$work/$name.qcow2"
  qemu-img create -q -u -f qcow2 -o cluster_size=65536 -F qcow2 -b "$base" "$work/$name.qcow2" 64G
  qemu-storage-daemon \
    --blockdev "driver=file,node-name=file,filename=$work/$name.qcow2,aio=$aio,locking=off" \
    --blockdev driver=qcow2,node-name=disk,file=file \
    --nbd-server "addr.type=unix,addr.path=$work/$name" \
    --export type=nbd,id=export,node-name=disk,name=disk,writable=on 2>"$work/$name.log" &
  pid[$name]=$!
}
listening() {
  local name=$1
  for _ in $(seq 100); do
    [ ! -S "$work/$name" ] || return 0
    kill -0 "${pid[$name]}" 2>/dev/null || return 1
    sleep 0.05
  done
  return 1
}

# name, requests, arguments. 53,248 and 16,384 bytes times the requests stay inside the file.
loads=(
  "read-4k-d1|20000|-d 1 -s 4096 -S 53248"
  "read-4k-d16|60000|-d 16 -s 4096 -S 16384"
  "read-256k-d4|4000|-d 4 -s 262144"
  "first-write-4k-d16|20000|-w -d 16 -s 4096 -S 53248"
  "overwrite-4k-d16|20000|-w -d 16 -s 4096 -S 53248"
)

cpu_ticks() {
  awk '{ print $14 + $15 }' "/proc/$1/stat"
}

measure() {
  local load=$1 server=$2 name requests arguments seconds before after
  IFS='|' read -r name requests arguments <<<"$load"
  before=$(cpu_ticks "${pid[$server]}")
  # shellcheck disable=SC2086
  seconds=$(qemu-img bench -f raw -o "$first" -c "$requests" $arguments \
    "nbd+unix:///disk?socket=$work/$server" | sed -n 's/Run completed in \(.*\) seconds./\1/p')
  after=$(cpu_ticks "${pid[$server]}")
  echo "$name $server $requests $seconds $((after - before))" >>"$work/results"
}

for run in $(seq "$runs"); do
  # New overlays for each run, so that the first writes are first.
  rm -rf "$work/state" "$work/ours" "$work/qsd-threads" "$work/qsd-uring" "$work/base"
  ours
  servers=(ours qsd-threads)
  storage_daemon qsd-threads threads
  storage_daemon qsd-uring io_uring
  listening ours && listening qsd-threads
  if listening qsd-uring; then
    servers+=(qsd-uring)
  fi
  # Warm: the sealed file into the page cache, whoever reads it first.
  cat "$(cat "$work/base")" >/dev/null
  for load in "${loads[@]}"; do
    for server in "${servers[@]}"; do
      measure "$load" "$server"
    done
    sync # or the writeback meets the next load
  done
  stop
done

python3 - "$work/results" "$(getconf CLK_TCK)" <<'PYTHON'
import statistics, sys
rows, tick = {}, float(sys.argv[2])
for line in open(sys.argv[1]):
    name, server, requests, seconds, ticks = line.split()
    rows.setdefault(name, {}).setdefault(server, []).append(
        (float(seconds) * 1e6 / int(requests), float(ticks) / tick * 1e6 / int(requests)))
print("| load | server | n | median us/request | least | greatest | CPU us/request | rate, times ours |")
print("|---|---|---|---|---|---|---|---|")
medians = {}
for name, servers in rows.items():
    for server, runs in servers.items():
        times = [t for t, _ in runs]
        medians[name, server] = statistics.median(times)
    for server, runs in servers.items():
        times = [t for t, _ in runs]
        print(f"| {name} | {server} | {len(runs)} | {statistics.median(times):.1f} | {min(times):.1f} "
              f"| {max(times):.1f} | {statistics.median(c for _, c in runs):.1f} "
              f"| {medians[name, 'ours'] / statistics.median(times):.2f} |")
# Against the faster of the storage daemon's ways.
bars = [("a", "read-4k-d1", 0.9, True), ("b", "read-4k-d16", 1.3, False),
        ("c", "read-256k-d4", 1.0, False), ("d", "first-write-4k-d16", 1.5, False),
        ("e", "overwrite-4k-d16", 1.5, False)]
for letter, name, limit, is_time in bars:
    best = min(m for (n, s), m in medians.items() if n == name and s.startswith("qsd"))
    figure = medians[name, "ours"] / best if is_time else best / medians[name, "ours"]
    is_met = figure <= limit if is_time else figure >= limit
    print(f"bar: storage.4{letter} {figure:.2f} {limit} {'ok' if is_met else 'short'}")
PYTHON
