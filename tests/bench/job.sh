#!/bin/bash
# Where the time of one run goes: ten runs, one after another, of a shell that writes one file on the
# base image; each boots its own microVM. Phases are those of the operation (docs/operators.md).
set -euo pipefail

runs=10
state=$(mktemp -d)
build/coppice serve "--state_dir=$state" --http.listen=127.0.0.1:0 >"$state/log" 2>&1 </dev/null &
daemon=$!
trap 'kill $daemon 2>/dev/null; wait $daemon 2>/dev/null || true; rm -rf "$state"' EXIT

url=
for _ in $(seq 600); do
  url=$(sed -n 's/.*msg=ready url=\([^ ]*\).*/\1/p' "$state/log")
  [ -z "$url" ] || break
  kill -0 $daemon || { cat "$state/log"; exit 1; }
  sleep 0.1
done
token=$(build/coppice token create --project default "--state-dir=$state" | tail -n 1)
configs/base-image/build.sh "$state/layout" >/dev/null
build/coppice import "oci:$state/layout" --tag busybox:latest "--state-dir=$state" >/dev/null

call() {
  curl -fsS -H "Authorization: Bearer $token" "$@"
}

echo "accelerator: $(sed -n 's/.*virtual machines run under \([A-Z]*\).*/\1/p' "$state/log" | tail -n 1)"
for _ in $(seq $runs); do
  before=$(date +%s%N)
  id=$(call "$url/v1/instances" -d '{"command":"echo x > /root/f","shell":true,"image":"tag:busybox:latest"}' | jq -r .uuid)
  while :; do
    operation=$(call "$url/v1/operations/$id")
    case $(jq -r .status <<<"$operation") in
      SUCCESS) break ;;
      FAILED | CANCELLED) echo "a run failed: $operation" >&2; exit 1 ;;
    esac
    sleep 0.01
  done
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
