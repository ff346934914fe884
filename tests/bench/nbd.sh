#!/bin/bash
# What a served disk costs a request, beside qemu-storage-daemon: both serve the same raw file,
# which lies in the page cache, over NBD on a unix socket; the client is `qemu-img bench`. Runs are
# interleaved, so that a busy moment of the machine meets them all. CPU is the server's.
#
#   tests/bench/nbd.sh [RUNS]
set -euo pipefail
shopt -s inherit_errexit

runs=${1:-5}
disk_mib=1024
ninja -C build nbd_bench >/dev/null
work=$(mktemp -d)
declare -A pid
trap 'kill "${pid[@]}" 2>/dev/null || true; wait || true; rm -rf "$work"' EXIT

# In single clusters, as overlays are written. Written (or read ahead) in large pieces, the page cache
# holds it in pieces of up to megabytes, and ext4 then walks 512 block heads for each 4 KiB written:
# 15 us instead of 2, whoever serves it.
python3 - "$work/disk" $((disk_mib * 256)) <<'PYTHON'
import os, sys
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
clusters = int(sys.argv[2])
for first in (0, 1):
    for cluster in range(first, clusters, 2):
        os.pwrite(file, cluster.to_bytes(8, "big") * 512, cluster * 4096)
os.fsync(file)
PYTHON

storage_daemon() {
  qemu-storage-daemon \
    --blockdev "driver=file,node-name=file,filename=$work/disk,aio=$2,locking=off" \
    --blockdev driver=raw,node-name=disk,file=file \
    --nbd-server "addr.type=unix,addr.path=$work/$1" \
    --export type=nbd,id=export,node-name=disk,name=disk,writable=on &
  pid[$1]=$!
}
ours() {
  build/tests/bench/nbd_bench "$work/$1" "$work/disk" "$2" 2>"$work/$1.log" &
  pid[$1]=$!
}
servers=(ours ours-inline qsd-threads)
ours ours uring
ours ours-inline inline
storage_daemon qsd-threads threads
storage_daemon qsd-uring io_uring 2>/dev/null
sleep 1
if kill -0 "${pid[qsd-uring]}" 2>/dev/null; then
  servers+=(qsd-uring)
fi

# name, requests, arguments: the step spreads the requests over the whole file
loads=(
  "read-4k-d1|20000|-d 1 -s 4096 -S 1052672"
  "read-4k-d16|60000|-d 16 -s 4096 -S 1052672"
  "read-256k-d4|8000|-d 4 -s 262144"
  "write-4k-d16|30000|-w -d 16 -s 4096 -S 1052672"
)

cpu_ticks() {
  awk '{ print $14 + $15 }' "/proc/$1/stat"
}

for run in $(seq "$runs"); do
  for load in "${loads[@]}"; do
    IFS='|' read -r name requests arguments <<<"$load"
    for server in "${servers[@]}"; do
      before=$(cpu_ticks "${pid[$server]}")
      # shellcheck disable=SC2086
      seconds=$(qemu-img bench -f raw -c "$requests" $arguments \
        "nbd+unix:///disk?socket=$work/$server" | sed -n 's/Run completed in \(.*\) seconds./\1/p')
      after=$(cpu_ticks "${pid[$server]}")
      echo "$name $server $requests $seconds $((after - before))" >>"$work/results"
    done
    if [[ $name == write* ]]; then
      sync "$work/disk" # or its writeback meets the next reads
    fi
  done
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
        print(f"| {name} | {server} | {len(runs)} | {statistics.median(times):.1f} | {min(times):.1f} "
              f"| {max(times):.1f} | {statistics.median(c for _, c in runs):.1f} "
              f"| {medians[name, 'ours'] / statistics.median(times):.2f} |")
# Against the faster of the storage daemon's two ways, run by run.
bars = [("read-4k-d1", 0.9, True), ("read-4k-d16", 1.3, False), ("read-256k-d4", 1.0, False),
        ("write-4k-d16", 1.5, False)]
for number, (name, limit, is_time) in enumerate(bars, 1):
    best = min(m for (n, s), m in medians.items() if n == name and s.startswith("qsd"))
    figure = medians[name, "ours"] / best if is_time else best / medians[name, "ours"]
    is_met = figure <= limit if is_time else figure >= limit
    print(f"bar: nbd.{number} {figure:.2f} {limit} {'ok' if is_met else 'short'}")
PYTHON
for server in ours ours-inline; do
  echo "-- $server"
  tail -n 4 "$work/$server.log"
done
