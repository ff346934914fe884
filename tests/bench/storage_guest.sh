#!/bin/bash
# What a guest gets from its disk: fio in a microVM, over a disk of the daemon's engine and over a
# plain qcow2 overlay that QEMU opens itself.
#
# Both are runs of one daemon, with the same kernel, agent, command and QEMU command line but for the
# drive: the daemon starts QEMU through a wrapper, which for a plain run puts a new overlay by
# `qemu-img create` in the place of the served disk (cache.direct=off, aio=threads, discard=unmap:
# what vmm/command_line.cpp has for files). The overlay's base is the same image, converted to a
# qcow2 with QEMU's own cluster size. Plain flushes reach the disk; a served disk answers them at
# once, because it becomes durable when it is sealed: the last row has what comes after the command,
# with the seal on one side and a sync of the overlay on the other.
#
# Runs are interleaved, and each begins with a new overlay; base files lie in the host's page cache.
#
#   tests/bench/storage_guest.sh [RUNS]
set -euo pipefail
shopt -s inherit_errexit

runs=${1:-5}
data_mib=256
work=$(mktemp -d)
daemon=
stop() {
  [ -z "$daemon" ] || kill "$daemon" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap stop EXIT

# Debian with fio and one file of noise, as a layer.
layer=build/bench-cache/fio.tar
if [ ! -f "$layer" ]; then
  mkdir -p build/bench-cache
  noise="openssl enc -aes-128-ctr -K 0123456789abcdef0123456789abcdef -iv 0 -in /dev/zero 2>/dev/null"
  mmdebstrap --quiet --format=tar --variant=minbase --include=fio \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --customize-hook="$noise | head -c ${data_mib}M >\"\$1/srv/data\"" \
    bookworm "$layer.new" >&2 </dev/null
  mv "$layer.new" "$layer"
fi

. tests/bench/layout.sh
make_layout "$layer" "$work/layout"

# -- the daemon, and the wrapper around QEMU -------------------------------------------------------
# $work/drive holds what stands in for the served disk; empty: nothing does.
: >"$work/drive"
cat >"$work/qemu" <<WRAPPER
#!/bin/bash
drive=\$(<"$work/drive")
for argument; do
  case \$argument in
    driver=nbd,node-name=d0,*) arguments+=("\${drive:-\$argument}") ;;
    *) arguments+=("\$argument") ;;
  esac
done
exec "$(command -v qemu-system-x86_64)" "\${arguments[@]}"
WRAPPER
chmod +x "$work/qemu"

state=$work/state
mkdir "$state"
# In the real-time class, where that is allowed, so that other programs of this machine do not take
# the cores away in the middle of a request. It hides something: on a busy machine in the normal class
# ours is the slower by far (docs/benchmarks.md). `GUEST_CLASS=normal` shows that.
first=()
if [ "${GUEST_CLASS:-}" != normal ] && chrt --rr 1 true 2>/dev/null; then
  first=(chrt --rr 1)
fi
"${first[@]}" build/coppice serve "--state_dir=$state" "--vm.qemu=$work/qemu" --http.listen=127.0.0.1:0 \
  >"$work/log" 2>&1 </dev/null &
daemon=$!
url=
for _ in $(seq 600); do
  url=$(sed -n 's/.*msg=ready url=\([^ ]*\).*/\1/p' "$work/log")
  [ -z "$url" ] || break
  kill -0 $daemon || { cat "$work/log"; exit 1; }
  sleep 0.1
done
token=$(build/coppice token create --project default "--state-dir=$state" | tail -n 1)
build/coppice import "oci:$work/layout" --tag fio:latest "--state-dir=$state" >/dev/null
rm -r "$work/layout"

call() {
  curl -fsS -H "Authorization: Bearer $token" "$@"
}

# run IMAGE COMMAND: prints the operation's record when it has ended.
run() {
  local id operation
  id=$(call "$url/v1/instances" -d "$(jq -cn --arg image "$1" --arg command "$2" \
    '{$image, $command, shell: true, timeout: 600}')" | jq -r .uuid)
  while :; do
    operation=$(call "$url/v1/operations/$id")
    case $(jq -r .status <<<"$operation") in
      SUCCESS) break ;;
      FAILED | CANCELLED) echo "a run failed: $operation" >&2; return 1 ;;
    esac
    sleep 0.2 # the machine is the guest's
  done
  echo "$operation"
}

# -- the load, as the guest's shell sees it --------------------------------------------------------
# A line for each row: name, KiB, milliseconds (fields 6 and 9 of reads, 47 and 50 of writes).
read -r -d '' load <<'GUEST' || true
set -eu
cd /srv
row() {
  name=$1
  shift
  sync
  echo 3 >/proc/sys/vm/drop_caches
  fio --output-format=terse --terse-version=3 --thread --gtod_reduce=1 --random_generator=tausworthe64 \
    --ioengine=libaio --allrandrepeat=1 --name="$name" "$@" |
    awk -F ';' '$1 == 3 { print $3, $6 + $47, $9 + $50 }'
}
data="--filename=/srv/data --size=256M --allow_file_create=0"
row read-buffered $data --ioengine=psync --rw=read --bs=128k
row read-256k-d4 $data --direct=1 --rw=read --bs=256k --iodepth=4 --loops=4
row read-4k-d1 $data --direct=1 --rw=randread --bs=4k --number_ios=4000
row read-4k-d16 $data --direct=1 --rw=randread --bs=4k --iodepth=16 --number_ios=10000
row first-write-4k-d1 $data --direct=1 --rw=randwrite --bs=4k --number_ios=3000 --randseed=1
row overwrite-4k-d1 $data --direct=1 --rw=randwrite --bs=4k --number_ios=3000 --randseed=1
row first-write-4k-d16 $data --direct=1 --rw=randwrite --bs=4k --iodepth=16 --number_ios=6000 --randseed=2
row overwrite-4k-d16 $data --direct=1 --rw=randwrite --bs=4k --iodepth=16 --number_ios=6000 --randseed=2
row write-4k-fdatasync $data --ioengine=psync --rw=randwrite --bs=4k --number_ios=2000 --fdatasync=1 --randseed=3
row write-buffered-fsync --filename=/srv/new --size=256M --ioengine=psync --rw=write --bs=128k --end_fsync=1 --fallocate=none
GUEST

# The first run of an image mounts its file system for the first time.
base=$(run tag:fio:latest 'echo begun >/srv/begun; sync' | jq -r .result_image_uuid)
qemu-img convert -f qcow2 -O qcow2 "$state/images/$base.qcow2" "$work/base.qcow2"

measure() {
  local server=$1 begin operation sync_us=0 is_same
  : >"$work/drive"
  if [ "$server" = plain ]; then
    rm -f "$work/overlay"
    qemu-img create -q -f qcow2 -b "$work/base.qcow2" -F qcow2 "$work/overlay"
    printf 'driver=qcow2,node-name=d0,discard=unmap,file.driver=file,file.filename=%s,file.aio=threads,file.discard=unmap' \
      "$work/overlay" >"$work/drive"
  fi
  sync # or the writeback of one meets the next
  operation=$(run "$base" "$load")
  if [ "$server" = plain ]; then
    begin=$(date +%s%N)
    sync "$work/overlay"
    sync_us=$((($(date +%s%N) - begin) / 1000))
  fi
  # Whose disk it was: the served one of a plain run has nothing new.
  is_same=$(jq --arg base "$base" '.result_image_uuid == $base' <<<"$operation")
  if [ "$(jq .metadata.result.state.exit_code <<<"$operation")" != 0 ] ||
    [ "$is_same" != "$([ "$server" = plain ] && echo true || echo false)" ]; then
    echo "not what was to be measured: $operation" >&2
    return 1
  fi
  jq -r .metadata.result.stdout.value <<<"$operation" | sed -n "s/./$server &/p" >>"$work/results"
  jq -r --arg server "$server" --argjson sync "$sync_us" '.metrics.phases |
    "\($server) after-command 0 \((.unmount_us + .close_us + (if $server == "plain" then $sync else .seal_us end)) / 1000)"' \
    <<<"$operation" >>"$work/results"
}

for i in $(seq "$runs"); do
  order=(ours plain)
  [ $((i % 2)) = 1 ] || order=(plain ours)
  for server in "${order[@]}"; do
    measure "$server"
  done
done

echo "class: ${first[*]:-normal}; load of the machine: $(cut -d ' ' -f 1-3 /proc/loadavg)"
echo "accelerator: $(sed -n 's/.*virtual machines run under \([A-Z]*\).*/\1/p' "$work/log" | tail -n 1)"
python3 - "$work/results" <<'PYTHON'
import statistics, sys
rows = {}
for line in open(sys.argv[1]):
    server, name, kib, ms = line.split()
    rows.setdefault(name, {}).setdefault(server, []).append((int(kib), float(ms)))

def figure(name, kib, ms):
    if name == "after-command":
        return ms, "ms"
    if "4k" in name:
        return ms * 1000 / (kib / 4), "us/request"
    return kib / 1024 / (ms / 1000), "MiB/s"

print("| load | unit | n | ours | least | greatest | plain qcow2 | least | greatest | our time, times plain |")
print("|---|---|---|---|---|---|---|---|---|---|")
ratios = {}
for name, servers in rows.items():
    cells = []
    for server in ("ours", "plain"):
        values = [figure(name, *run)[0] for run in servers[server]]
        cells += [f"{v:.1f}" for v in (statistics.median(values), min(values), max(values))]
    times = {server: statistics.median(ms for _, ms in runs) for server, runs in servers.items()}
    ratios[name] = times["ours"] / times["plain"]
    unit = figure(name, *servers["ours"][0])[1]
    print(f"| {name} | {unit} | {len(servers['ours'])} | {' | '.join(cells)} | {ratios[name]:.2f} |")
# No limit is set: the figure is the worst row's of those that the guest waits for.
del ratios["after-command"]
print(f"bar: storage.11 {max(ratios.values()):.2f} - ok")
PYTHON
