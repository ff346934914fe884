#!/bin/bash
# Where the time of one run goes: ten runs, one after another, of a shell that writes one file on the
# base image; however its VM starts. Phases are those of the operation (docs/operators.md).
set -euo pipefail

runs=10
. tests/bench/daemon.sh
import_busybox

echo "accelerator: $(sed -n 's/.*virtual machines run under \([A-Z]*\).*/\1/p' "$log" | tail -n 1)"
for _ in $(seq $runs); do
  before=$(date +%s%N)
  operation=$(run tag:busybox:latest 'echo x > /root/f')
  jq -c --argjson total "$((($(date +%s%N) - before) / 1000))" \
    '.metrics.phases + {request_to_end_us: $total}' <<<"$operation" >>"$state/phases"
done

jq -rs '
  def row($name; $key): map(.[$key] / 1000) | sort
    | "| \($name) | \(length) | \(.[length / 2 | floor] * 100 | round / 100) | \(.[0] * 100 | round / 100) | \(.[-1] * 100 | round / 100) |";
  "| phase | n | median ms | least | greatest |", "|---|---|---|---|---|",
  row("queue"; "queue_us"), row("overlay"; "overlay_us"), row("boot"; "boot_us"),
  row("mount and start"; "mount_us"), row("exec"; "exec_us"), row("unmount"; "unmount_us"),
  row("close (QEMU quits)"; "close_us"), row("seal"; "seal_us"),
  row("request to end, client"; "request_to_end_us")' "$state/phases"
