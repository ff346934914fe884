#!/bin/bash
# Benchmarks: tests/bench/run.sh GROUP [PART...]
#
#   job           where the time of one run goes, phase by phase
#   storage       disks: attach, read, seal, serve, what runs cost, a guest's view, a large catalog
#   start         from request to result: pool, restore, boot and podman; load, memory
#   api           the HTTP API beside nginx and grep: downloads, listings, searches, polling
#   cluster_size  what small and large clusters of a qcow2 file cost in space and time
#
# Each group installs what it compares with, measures in one run, prints a table (n, median, least
# and greatest) and, where a bar is set, a line `bar: GROUP.N figure limit ok|short|skip`
# (limit -: none).
set -euo pipefail
cd "$(dirname "$0")/../.."

group=${1:-}
script=tests/bench/$group.sh
if [ -z "$group" ] || [ ! -f "$script" ]; then
  echo "usage: tests/bench/run.sh GROUP, one of: $(cd tests/bench && ls ./*.sh | grep -v run.sh | sed 's|./||; s|\.sh||' | tr '\n' ' ')" >&2
  exit 2
fi
configs/install_packages.sh test >/dev/null
cmake -G Ninja -S . -B build -DCMAKE_BUILD_TYPE=RelWithDebInfo >/dev/null
ninja -C build coppice guest >/dev/null
shift
exec bash "$script" "$@"
