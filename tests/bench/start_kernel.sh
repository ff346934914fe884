#!/bin/bash
# The packaged guest kernel against the one of our own (configs/guest/kernel.sh, which this builds
# first if it is not there: some ten minutes on two cores).
#
# Everything is interleaved: one with the one kernel, one with the other. Cold boots are to the
# agent's answer, without a disk. Runs go through two daemons that are the same but for the kernel,
# one run at a time, each from a VM that waited; restores through two others where none waits.
# Memory is that of QEMU's processes while their VMs wait (each has run its idle run and is halted).
#
#   tests/bench/start_kernel.sh [RUNS] [BOOTS]
set -euo pipefail
shopt -s inherit_errexit

runs=${1:-12}
boots=${2:-10}
waiting=8
ninja -C build measure_boot coppice-agent >/dev/null
nice -n 19 configs/guest/kernel.sh build build/coppice-agent >&2

work=$(mktemp -d)
chmod o+x "$work" # the daemons give root up
daemons=()
stop() {
  [ ${#daemons[@]} -eq 0 ] || kill "${daemons[@]}" 2>/dev/null || true
  wait 2>/dev/null || true
  daemons=()
}
trap 'stop; rm -rf "$work"' EXIT

declare -A uid_first=([packaged]=1900010000 [own]=1900020000)
declare -A folder=([packaged]=$PWD/build/guest [own]=$PWD/build/guest/own)
kernels=(packaged own)

note() { echo "$2" >>"$work/$1"; }

# -- an image with a shell, Python and programs of the usual size ---------------------------------

layer=build/bench-cache/python.tar
if [ ! -s "$layer" ]; then
  mkdir -p build/bench-cache
  mmdebstrap --quiet --format=tar --variant=minbase --include=python3-minimal,libpython3-stdlib \
    bookworm "$layer.new" >&2 </dev/null
  mv "$layer.new" "$layer"
fi
. tests/bench/layout.sh
make_layout "$layer" "$work/layout"

# -- daemons ----------------------------------------------------------------------------------------

declare -A url token log pid
# start_daemon KERNEL [ARGUMENT...]
start_daemon() {
  local kernel=$1
  shift
  log[$kernel]=$work/$kernel.log
  build/coppice serve "--state_dir=$work/$kernel" --http.listen=127.0.0.1:0 --vm.accelerator=tcg \
    --vm.classes=1:256 --vm.running_max=1 --log.level=debug "--jail.uid_first=${uid_first[$kernel]}" \
    "--vm.kernel=${folder[$kernel]}/vmlinux" "$@" >"${log[$kernel]}" 2>&1 </dev/null &
  pid[$kernel]=$!
  daemons+=($!)
  url[$kernel]=
  for _ in $(seq 600); do
    url[$kernel]=$(sed -n 's/.*msg=ready url=\([^ ]*\).*/\1/p' "${log[$kernel]}")
    [ -z "${url[$kernel]}" ] || break
    kill -0 "${pid[$kernel]}" || { cat "${log[$kernel]}" >&2; exit 1; }
    sleep 0.1
  done
  token[$kernel]=$(build/coppice token create --project default "--state-dir=$work/$kernel" | tail -n 1)
}

# wait_for KERNEL TEXT COUNT: until its log has so many lines with that text.
wait_for() {
  for _ in $(seq 1200); do
    [ "$(grep -c "$2" "${log[$1]}")" -lt "$3" ] || return 0
    sleep 0.1
  done
  echo "the daemon with the $1 kernel never said: $2" >&2
  exit 1
}

call() {
  local kernel=$1
  shift
  curl -fsS -H "Authorization: Bearer ${token[$kernel]}" "$@"
}

# run KERNEL COMMAND: prints the operation and notes the client's time.
run() {
  local id operation before
  before=$(date +%s%N)
  id=$(call "$1" "${url[$1]}/v1/instances" -d "$(jq -cn --arg command "$2" \
    '{image: "tag:python:latest", $command, shell: true, timeout: 600}')" | jq -r .uuid)
  while :; do
    operation=$(call "$1" "${url[$1]}/v1/operations/$id")
    case $(jq -r .status <<<"$operation") in
      SUCCESS) break ;;
      FAILED | CANCELLED) echo "a run failed: $operation" >&2; exit 1 ;;
    esac
    sleep 0.01
  done
  jq -c --argjson total "$((($(date +%s%N) - before) / 1000))" '. + {client_us: $total}' <<<"$operation"
}

# note_run NAME WAY OPERATION: fails when the VM came another way than this part is about.
note_run() {
  [ "$(jq -r .metrics.vm_start <<<"$3")" = "$2" ] || { echo "not by way of the $2: $3" >&2; exit 1; }
  note "$1.total" "$(jq '.client_us / 1000' <<<"$3")"
  note "$1.boot" "$(jq '.metrics.phases.boot_us / 1000' <<<"$3")"
  note "$1.guest" "$(jq '.metrics.phases | (.boot_us + .mount_us + .exec_us + .unmount_us) / 1000' <<<"$3")"
}

# The QEMUs below a process.
qemus_below() {
  local child
  for child in $(cat "/proc/$1/task/"*/children 2>/dev/null); do
    case $(readlink "/proc/$child/exe" 2>/dev/null) in *qemu-system*) echo "$child" ;; esac
    qemus_below "$child"
  done
}

# -- measuring --------------------------------------------------------------------------------------

echo "cold boots" >&2
for _ in $(seq "$boots"); do
  for kernel in "${kernels[@]}"; do
    build/tests/integration/measure_boot "${folder[$kernel]}/vmlinux" "${folder[$kernel]}/initramfs.cpio" \
      "$work/ms" >/dev/null
    note "$kernel.cold" "$(cat "$work/ms")"
  done
done

echo "runs from VMs that wait" >&2
declare -A command=([true]=true [write]='echo x > /root/f' [md5sum]='md5sum /bin/bash >/root/f'
  [python]='python3 -c "import json, re, sys; print(sys.version)" >/root/f')
for kernel in "${kernels[@]}"; do
  start_daemon "$kernel" --pool.floor=1 --pool.ceiling=1
  build/coppice import "oci:$work/layout" --tag python:latest "--state-dir=$work/$kernel" >/dev/null
done
count=0
for name in true write md5sum python; do
  for _ in $(seq "$runs"); do
    count=$((count + 1))
    for kernel in "${kernels[@]}"; do
      wait_for "$kernel" '"a vm waits"' "$count"
      note_run "$kernel.$name" pool "$(run "$kernel" "${command[$name]}")"
    done
  done
done
for kernel in "${kernels[@]}"; do
  for what in memory_bytes state_bytes; do
    note "$kernel.$what" "$(sed -n "s/.*msg=\"template made\".* $what=\([0-9]*\).*/\1/p" "${log[$kernel]}" |
      head -n 1 | awk -v mib="$([ $what = memory_bytes ] && echo 1048576 || echo 1024)" '{print $1 / mib}')"
  done
  note "$kernel.kept" "$(du -sk "$work/$kernel/templates" | awk '{print $1 / 1024}')"
done
stop

echo "restores" >&2
for kernel in "${kernels[@]}"; do
  start_daemon "$kernel" --pool.floor=0 --pool.ceiling=0
  run "$kernel" true >/dev/null # the template is read, the image is in the page cache
done
for _ in $(seq "$runs"); do
  for kernel in "${kernels[@]}"; do
    note_run "$kernel.restored" template "$(run "$kernel" true)"
  done
done
stop

echo "memory of VMs that wait" >&2
for kernel in "${kernels[@]}"; do
  start_daemon "$kernel" "--pool.floor=$waiting" "--pool.ceiling=$waiting"
done
for kernel in "${kernels[@]}"; do
  wait_for "$kernel" '"a vm waits"' "$waiting"
  for qemu in $(qemus_below "${pid[$kernel]}"); do
    note "$kernel.pss" "$(awk '/^Pss:/ {print $2 / 1024}' "/proc/$qemu/smaps_rollup")"
    note "$kernel.own_pages" "$(awk '/^Anonymous:/ {print $2 / 1024}' "/proc/$qemu/smaps_rollup")"
  done
done
stop

# -- the table --------------------------------------------------------------------------------------

figures() { sort -g "$work/$1" | awk '{v[NR] = $1} END {printf "%.5g (%.5g to %.5g)", v[int((NR + 1) / 2)], v[1], v[NR]}'; }
middle() { sort -g "$work/$1" | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }
# row TEXT NAME
row() {
  printf '| %s | %d | %s | %s | %.2f |\n' "$1" "$(wc -l <"$work/own.$2")" "$(figures "packaged.$2")" \
    "$(figures "own.$2")" "$(echo "$(middle "own.$2") $(middle "packaged.$2")" | awk '{print $1 / $2}')"
}
printf '\npackaged: %s; own: %s\n\n' "$(cat "${folder[packaged]}/kernel.release")" \
  "$(cat "${folder[own]}/kernel.release")"
echo "| median (least to greatest) | n | packaged | own | own, times packaged |"
echo "|---|---|---|---|---|"
row "cold boot to the agent's answer, ms" cold
row "template, MiB of memory" memory_bytes
row "template, KiB of device state" state_bytes
row "template as a file, MiB" kept
row "VM that waits, MiB PSS ($waiting at once)" pss
row "of that its own pages (the rest is shared), MiB" own_pages
row "restore, ms (phase boot)" restored.boot
row "\`true\` from a restore, client, ms" restored.total
for name in true write md5sum python; do
  row "\`${command[$name]//|/}\` from the pool, go on to unmounted, ms" "$name.guest"
  row "the same, client, ms" "$name.total"
done
