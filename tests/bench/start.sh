#!/bin/bash
# How a run starts (docs/benchmarks.md says what each row means).
#
#   tests/bench/run.sh start [PART...]    latency load memory warm kernel; all by default
#
# Its peer is podman of Debian 12, on the same root file system, with runc: crun refuses hosts that
# have both kinds of cgroups.
set -euo pipefail
shopt -s inherit_errexit

parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(latency load memory warm kernel)
work=$(mktemp -d)
# podman keeps its own mount of its storage.
clean() {
  ! mountpoint -q "$work/podman/overlay" || umount "$work/podman/overlay"
  rm -rf "${work:?}"/*
}
trap 'clean; rmdir "$work"' EXIT

# with_daemons NAME=ARGUMENTS... -- COMMAND...: starts a daemon for each name, imports the base image
# into each, and runs the command with `--daemon NAME=URL,PID,LOG,CGROUP,TOKEN,TOKEN` for each:
# tokens of two projects, and a cgroup (v2) that counts the processor time of all its processes, which
# needs no controller.
with_daemons() {
  (
    local groups given=() name state log url project tokens
    groups=$(findmnt -n -o TARGET -t cgroup2 | head -n 1)/coppice-bench-$$-
    trap 'jobs -p | xargs -r kill 2>/dev/null; wait 2>/dev/null || true; rmdir "$groups"*' EXIT
    configs/base-image/build.sh "$work/oci" >/dev/null
    while [ "$1" != -- ]; do
      name=${1%%=*} state=$work/$name log=$work/$name.log
      : >"$log"
      mkdir "$state" "$groups$name" && chmod 711 "$work" "$state"
      # shellcheck disable=SC2086 # the arguments are words
      bash -c 'echo $$ >"$0/cgroup.procs" && exec "$@"' "$groups$name" \
        build/coppice serve "--state_dir=$state" --http.listen=127.0.0.1:0 --log.level=debug ${1#*=} \
        >"$log" 2>&1 </dev/null &
      for _ in $(seq 600); do
        url=$(sed -n 's/.*msg=ready url=\([^ ]*\).*/\1/p;s/.*"msg":"ready","url":"\([^"]*\)".*/\1/p' "$log")
        [ -z "$url" ] || break
        kill -0 $! || { cat "$log"; exit 1; }
        sleep 0.1
      done
      tokens=
      for project in default other; do
        build/coppice import "oci:$work/oci" --tag busybox:latest --project $project \
          "--state-dir=$state" >/dev/null 2>&1
        tokens+=,$(build/coppice token create --project $project "--state-dir=$state" | tail -n 1)
      done
      given+=(--daemon "$name=$url,$!,$log,$groups$name$tokens")
      shift
    done
    shift
    "$@" "${given[@]}"
  )
}

# Prints how podman can be called here, or why it cannot.
podman_command() {
  local packages=() package
  for package in podman runc; do
    command -v $package >/dev/null || packages+=($package)
  done
  [ ${#packages[@]} -eq 0 ] ||
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${packages[@]}" >&2
  echo "podman --root $work/podman --runroot $work/podman-run --runtime runc --storage-driver overlay"
}

for part in "${parts[@]}"; do
  printf '\n== %s\n' "$part"
  case $part in
    latency)
      with_daemons pool='--pool.floor=1 --pool.ceiling=1' restore=--pool.ceiling=0 \
        boot=--pool.templates=false -- \
        python3 tests/bench/start_client.py latency --podman "$(podman_command)" \
        --layout "$work/oci"
      ;;
    load)
      with_daemons usual= alone=--pool.ceiling=0 -- python3 tests/bench/start_client.py load
      ;;
    memory)
      with_daemons many='--pool.floor=60 --pool.ceiling=60' -- \
        python3 tests/bench/start_client.py memory --count 60
      ;;
    warm | kernel)
      bash "tests/bench/start_$part.sh"
      ;;
    *)
      echo "start: no part is called $part" >&2
      exit 2
      ;;
  esac
  clean
done
