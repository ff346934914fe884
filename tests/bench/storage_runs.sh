#!/bin/bash
# What real runs cost in the store: allocated blocks of everything below the state folder (image
# file, index, records, events), before and after.
#
#   tests/bench/storage_runs.sh [RUNS]
set -euo pipefail
shopt -s inherit_errexit

runs=${1:-20}
state=$(mktemp -d)
log=$(mktemp)
build/coppice serve "--state_dir=$state" --http.listen=127.0.0.1:0 >"$log" 2>&1 </dev/null &
daemon=$!
trap 'kill $daemon 2>/dev/null; wait $daemon 2>/dev/null || true; rm -rf "$state" "$log"' EXIT
url=
for _ in $(seq 600); do
  url=$(sed -n 's/.*msg=ready url=\([^ ]*\).*/\1/p' "$log")
  [ -z "$url" ] || break
  kill -0 $daemon || { cat "$log"; exit 1; }
  sleep 0.1
done
token=$(build/coppice token create --project default "--state-dir=$state" | tail -n 1)
layout=$(mktemp -d)
configs/base-image/build.sh "$layout" >/dev/null
build/coppice import "oci:$layout" --tag busybox:latest "--state-dir=$state" >/dev/null
rm -r "$layout"

call() {
  curl -fsS -H "Authorization: Bearer $token" "$@"
}

# run IMAGE COMMAND: gives the id of the resulting image.
run() {
  local id operation
  id=$(call "$url/v1/instances" -d "$(jq -cn --arg image "$1" --arg command "$2" \
    '{$image, $command, shell: true, timeout: 600}')" | jq -r .uuid)
  while :; do
    operation=$(call "$url/v1/operations/$id")
    case $(jq -r .status <<<"$operation") in
      SUCCESS) break ;;
      FAILED | CANCELLED) echo "a run failed: $operation" >&2; exit 1 ;;
    esac
    sleep 0.05
  done
  jq -r .result_image_uuid <<<"$operation"
}

allocated() {
  sync
  du -s -B1 "$state" | cut -f 1
}

bar() {
  awk -v name="$1" -v figure="$2" -v limit="$3" \
    'BEGIN { printf "bar: %s %.1f %s %s\n", name, figure, limit, figure <= limit ? "ok" : "short" }'
}

# The first run of an image mounts its file system for the first time; what is measured is a branch
# of one that has run.
base=$(run tag:busybox:latest 'mkdir /srv/begun; echo begun >/srv/begun/f')
before=$(allocated)
for _ in $(seq "$runs"); do
  run "$base" 'touch /x' >/dev/null
done
touched=$((($(allocated) - before) / runs))
echo "touch /x: $touched bytes a run, n $runs, index and catalog included"
bar storage.3a "$(awk -v b=$touched 'BEGIN { print b / 1024 }')" 80

same=$(run "$base" true)
echo "true: gives back $([ "$same" = "$base" ] && echo 'its input image' || echo "another image")"
bar storage.3b "$([ "$same" = "$base" ] && echo 0 || echo 1)" 0

before=$(allocated)
run "$base" 'yes 0123456789abcdef | head -c 500000000 >/big; sync; rm /big; sync' >/dev/null
deleted=$(($(allocated) - before))
echo "500 MB written and deleted: $deleted bytes"
bar storage.3c "$(awk -v b=$deleted 'BEGIN { print b / 1048576 }')" 1
