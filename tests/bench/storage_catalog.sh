#!/bin/bash
# A catalog of a thousand and one of a million images, operations and files: what a look-up and a
# page of each listing cost over HTTP, how many records each reads, and what memory the daemon takes.
# Both daemons run at once and are asked in turn, so that a busy moment of the machine meets both.
#
#   tests/bench/storage_catalog.sh [SMALL LARGE]
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/../.."

sizes=("${1:-1000}" "${2:-1000000}")
ninja -C build coppice catalog_bench >/dev/null
bench=build/tests/bench/catalog_bench
work=$(mktemp -d)
daemons=()
trap 'kill "${daemons[@]}" 2>/dev/null || true; wait || true; rm -rf "$work"' EXIT

now_ms() {
  echo $(($(date +%s%N) / 1000000))
}

# start STATE: answers when the daemon is ready; sets url and appends to daemons.
start() {
  local began
  began=$(now_ms)
  : >"$1.log" # the daemon may be slower to make it than we to look
  # TCG: no trial boot beside the measurement. No log is old enough to be trimmed.
  build/coppice serve "--state_dir=$1" --http.listen=127.0.0.1:0 --vm.accelerator=tcg \
    --events.keep=36500d --events.keep_operations=1000000000 >"$1.log" 2>&1 </dev/null &
  daemons+=($!)
  url=
  for _ in $(seq 1200); do
    url=$(sed -n 's/.*msg=ready url=\([^ ]*\).*/\1/p' "$1.log")
    [ -z "$url" ] || break
    kill -0 "${daemons[-1]}" || { cat "$1.log"; exit 1; }
    sleep 0.02
  done
  echo "| ${1##*/} | $(($(now_ms) - began)) |"
}

for size in "${sizes[@]}"; do
  mkdir -p "$work/$size"
  began=$(now_ms)
  "$bench" fill "$work/$size/catalog" "$size"
  echo "catalog of $size: $(du -sm "$work/$size/catalog" | cut -f1) MiB, filled in $(($(now_ms) - began)) ms"
done

arguments=()
echo '| catalog | start, ms |'
echo '|---|---|'
for size in "${sizes[@]}"; do
  start "$work/$size"
  token=$(build/coppice token create --project default "--state-dir=$work/$size" | tail -n 1)
  arguments+=("${url##*:}" "${daemons[-1]}" "$token" "$size")
done
"$bench" http "${arguments[@]}"
kill "${daemons[@]}"
wait
daemons=()

for size in "${sizes[@]}"; do
  "$bench" counts "$work/$size/catalog" "$size"
done
