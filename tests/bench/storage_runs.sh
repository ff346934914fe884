#!/bin/bash
# What real runs cost in the store: allocated blocks of everything below the state folder (image
# file, index, records, events), before and after.
#
#   tests/bench/storage_runs.sh [RUNS]
set -euo pipefail
shopt -s inherit_errexit

runs=${1:-20}
. tests/bench/daemon.sh
import_busybox

# image_after IMAGE COMMAND: gives the id of the resulting image.
image_after() {
  run "$1" "$2" | jq -r .result_image_uuid
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
base=$(image_after tag:busybox:latest 'mkdir /srv/begun; echo begun >/srv/begun/f')
before=$(allocated)
for _ in $(seq "$runs"); do
  run "$base" 'touch /x' >/dev/null
done
touched=$((($(allocated) - before) / runs))
echo "touch /x: $touched bytes a run, n $runs, index and catalog included"
bar storage.3a "$(awk -v b=$touched 'BEGIN { print b / 1024 }')" 80

same=$(image_after "$base" true)
echo "true: gives back $([ "$same" = "$base" ] && echo 'its input image' || echo "another image")"
bar storage.3b "$([ "$same" = "$base" ] && echo 0 || echo 1)" 0

before=$(allocated)
run "$base" 'yes 0123456789abcdef | head -c 500000000 >/big; sync; rm /big; sync' >/dev/null
deleted=$(($(allocated) - before))
echo "500 MB written and deleted: $deleted bytes"
bar storage.3c "$(awk -v b=$deleted 'BEGIN { print b / 1048576 }')" 1
