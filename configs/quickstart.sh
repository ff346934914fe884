#!/bin/bash
# From a fresh Debian 12 (amd64) to a branching demo: installs what is missing, builds, starts the
# daemon, makes a token, imports the base image and runs the demo. Run as root: the daemon gives
# root up by itself, and jails what it starts. An ordinary user can run it once the packages are
# there; then nothing is jailed. What is already there is kept, so a second call takes seconds.
#
#   configs/quickstart.sh         all of the above
#   configs/quickstart.sh stop    stops the daemon; images and token stay
#
#   COPPICE_STATE    folder of images, token and log   (default /var/lib/coppice; for an ordinary
#                    user ~/.local/share/coppice)
#   COPPICE_LISTEN   address of the HTTP API           (default 127.0.0.1:8080)
#   COPPICE_KERNEL   the guests' kernel: packaged, or own, which is built from source first, ten
#                    minutes and more (default packaged)
set -euo pipefail
shopt -s inherit_errexit
exec </dev/null
cd "$(dirname "$0")/.."

if [ "$(id -u)" = 0 ]; then
  state=${COPPICE_STATE:-/var/lib/coppice}
else
  state=${COPPICE_STATE:-${XDG_DATA_HOME:-$HOME/.local/share}/coppice}
fi
listen=${COPPICE_LISTEN:-127.0.0.1:8080}
url=http://$listen
kernel=${COPPICE_KERNEL:-packaged}
build=$PWD/build
coppice=$build/coppice
token_file=$state/token
log=$state/quickstart.log
steps=7
step_number=0

case $kernel in
  packaged | own) ;;
  *) echo "quickstart: COPPICE_KERNEL=$kernel: packaged or own" >&2; exit 2 ;;
esac

die() {
  printf 'quickstart: %s\n' "$*" >&2
  exit 1
}

step() {
  step_number=$((step_number + 1))
  printf '[%d/%d] %s\n' "$step_number" "$steps" "$1"
}

note() {
  printf '      %s\n' "$*"
}

# The last line of the log, short: ninja's lines without the names of its folders.
last_words() {
  tail -n 1 "$log" | tr -d '\r' |
    sed 's/Building CXX object //; s#CMakeFiles/[^/]*\.dir/##; s/\.o$//' | cut -c 1-80
}

# Runs a command whose output goes to the log; says now and then how far it is.
quietly() {
  local began=$SECONDS pid status=0 next
  next=$((began + 2))
  "$@" >>"$log" 2>&1 &
  pid=$!
  while kill -0 "$pid" 2>/dev/null; do
    sleep 0.2
    if [ $SECONDS -ge $next ]; then
      note "$((SECONDS - began)) s: $(last_words)"
      next=$((SECONDS + (SECONDS - began < 15 ? 3 : 10)))
    fi
  done
  wait "$pid" || status=$?
  if [ $status -ne 0 ]; then
    tail -n 40 "$log" >&2
    die "'$*' failed with status $status; the whole output is in $log"
  fi
}

# -- the daemon -----------------------------------------------------------------------------------

# The daemon's pid, if the one that this script started still runs.
daemon_pid() {
  local pid
  pid=$(cat "$state/coppice.pid" 2>/dev/null) || return 1
  [ -n "$pid" ] && [ "$(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | cut -d ' ' -f 2)" = serve ] &&
    echo "$pid"
}

is_ready() {
  curl -s -f -m 5 -o /dev/null "$url/healthz"
}

stop_daemon() {
  local pid
  if ! pid=$(daemon_pid); then
    note "no daemon of this script runs on $state"
    return 0
  fi
  note "stopping the daemon (pid $pid)"
  kill -TERM "$pid"
  for ((i = 0; i < 300; i++)); do
    daemon_pid >/dev/null || break # not kill -0: what is dead but not yet waited for is gone, too
    sleep 0.1
  done
  ! daemon_pid >/dev/null || die "the daemon has not stopped after 30 s; its log: $state/coppice.log"
  rm -f "$state/coppice.pid"
}

kernel_argument() {
  [ "$kernel" = packaged ] || echo "--vm.kernel=$build/guest/$kernel/vmlinux"
}

# Whether a daemon was started with the kernel that is wanted now.
has_kernel() {
  [ "$(tr '\0' '\n' <"/proc/$1/cmdline" | grep -e '^--vm.kernel=' || true)" = "$(kernel_argument)" ]
}

start_daemon() {
  local argument
  argument=$(kernel_argument)
  setsid nohup "$coppice" serve --state-dir "$state" "--http.listen=$listen" ${argument:+"$argument"} \
    >>"$state/coppice.log" 2>&1 &
  echo $! >"$state/coppice.pid"
  # Choosing the accelerator boots a guest, so this may take a while on a slow machine.
  for ((i = 0; i < 600; i++)); do
    is_ready && return 0
    if ! daemon_pid >/dev/null; then
      tail -n 20 "$state/coppice.log" >&2
      die "the daemon ended; its log: $state/coppice.log"
    fi
    [ $((i % 30)) -ne 29 ] || note "$(((i + 1) / 10)) s: waiting for the daemon"
    sleep 0.1
  done
  die "the daemon is not ready after 60 s; its log: $state/coppice.log"
}

# -- the API --------------------------------------------------------------------------------------

# api METHOD PATH [JSON] : the answer's body, or the end with the daemon's own words.
api() {
  local method=$1 path=$2 answer code
  shift 2
  # The token goes in through a descriptor: arguments are visible to every user of the machine.
  answer=$(curl -s -m 60 -X "$method" -w '\n%{http_code}' -H "Content-Type: application/json" \
    -H @<(printf 'Authorization: Bearer %s\n' "$(cat "$token_file")") \
    ${1+--data-binary "$1"} "$url$path") || die "$method $path: no answer from $url"
  code=${answer##*$'\n'}
  answer=${answer%$'\n'*}
  [ "$code" -lt 400 ] || die "$method $path: $(jq -r '.error // .' <<<"$answer" 2>/dev/null || echo "$code")"
  printf '%s' "$answer"
}

token_works() {
  [ -s "$token_file" ] && [ "$(curl -s -m 10 -o /dev/null -w '%{http_code}' \
    -H @<(printf 'Authorization: Bearer %s\n' "$(cat "$token_file")") "$url/v1/whoami")" = 200 ]
}

# start_run IMAGE COMMAND : the operation's id
start_run() {
  api POST /v1/instances "$(jq -n --arg image "$1" --arg command "$2" \
    '{image: $image, command: $command, shell: true, timeout: 60}')" | jq -r .uuid
}

# wait_run ID : the finished operation
wait_run() {
  local operation
  for ((i = 0; i < 900; i++)); do
    [ $((i % 25)) -ne 24 ] || note "$(((i + 1) / 5)) s: $(jq -r .status <<<"$operation")" >&2
    operation=$(api GET "/v1/operations/$1")
    case $(jq -r .status <<<"$operation") in
      SUCCESS) printf '%s' "$operation"; return 0 ;;
      FAILED | CANCELLED) die "the run failed: $(jq -r .error <<<"$operation")" ;;
    esac
    sleep 0.2
  done
  die "operation $1 did not end within 180 s"
}

content_of() {
  api GET "/v1/inspect/$1/download?path=$2"
}

# -- steps ----------------------------------------------------------------------------------------

prepare_machine() {
  local missing
  [ "$(uname -m)" = x86_64 ] || die "this needs an amd64 machine, not $(uname -m)"
  install -d -m 700 "$state"
  : >"$log"
  step "Packages of Debian 12, for building and running"
  missing=$(configs/install_packages.sh --missing)
  if [ -z "$missing" ]; then
    note "all are there"
    return 0
  fi
  [ "$(id -u)" = 0 ] || die "packages are missing; as root: apt-get install $missing"
  note "will install, with what they need:"
  note "$(fold -s -w 90 <<<"$missing" | sed '2,$s/^/      /')"
  quietly configs/install_packages.sh
}

build_program() {
  local jobs
  step "Build in $build (program, guest agent, guest kernel and initramfs)"
  # A compiler process of this code base needs up to 1.5 GiB.
  jobs=$(awk -v cores="$(nproc)" '/^MemTotal/ { m = int($2 / 1572864); if (m < 1) m = 1
    print (m < cores ? m : cores) }' /proc/meminfo)
  quietly cmake -G Ninja -S . -B "$build" -DCMAKE_BUILD_TYPE=RelWithDebInfo
  quietly ninja -C "$build" -j "$jobs" coppice guest
  if [ "$kernel" = own ]; then
    note "a guest kernel of our own: ten minutes and more, the first time"
    quietly configs/guest/kernel.sh "$build" "$build/coppice-agent"
  fi
}

run_daemon() {
  local pid
  step "Daemon on $url, state in $state"
  if pid=$(daemon_pid) && readlink "/proc/$pid/exe" | grep -q ' (deleted)$'; then
    note "the program was built anew: starting the daemon again"
    stop_daemon
  elif pid=$(daemon_pid) && ! has_kernel "$pid"; then
    note "the guests get another kernel: starting the daemon again"
    stop_daemon
  fi
  if is_ready; then
    note "already running"
  elif pid=$(daemon_pid); then
    die "a daemon (pid $pid) runs on $state but does not answer on $url; stop it with: configs/quickstart.sh stop"
  else
    start_daemon
    note "started, pid $(cat "$state/coppice.pid"), log in $state/coppice.log"
  fi
}

make_token() {
  step "Token for project 'default'"
  if token_works; then
    note "kept: $token_file"
    return 0
  fi
  "$coppice" token create --state-dir "$state" --project default --output "$token_file" 2>>"$log" ||
    die "$(tail -n 1 "$log")"
  token_works || die "a daemon with another state folder answers on $url; set COPPICE_LISTEN"
  note "new: $token_file (mode 0600)"
}

import_base_image() {
  step "Base image busybox:latest"
  base=$(api GET '/v1/images?tag=busybox:latest&limit=1' |
    jq -r '.images[] | select(.tag == "busybox:latest") | .uuid')
  if [ -n "$base" ]; then
    note "already imported"
    return 0
  fi
  [ -s "$build/base-image/index.json" ] || quietly configs/base-image/build.sh "$build/base-image"
  quietly "$coppice" import --state-dir "$state" "oci:$build/base-image" --tag busybox:latest
  base=$(api GET '/v1/images?tag=busybox:latest&limit=1' | jq -r '.images[0].uuid')
  note "imported"
}

# A program with a fault and a test; three ways to mend it, tried side by side.
run_demo() {
  local operation before try
  local changes=('s/-/*/' 's/-/+/' 's/-/%/')
  local runs=()
  step "Demo: one run prepares /app/add.sh with a fault and a test for it"
  # shellcheck disable=SC2016  # the guest's shell expands it
  operation=$(start_run "$base" 'mkdir -p /app && cd /app &&
    echo "echo \$((\$1 - \$2))" > add.sh &&
    echo "test \$(sh /app/add.sh 2 3) = 5" > test.sh; sh test.sh')
  operation=$(wait_run "$operation")
  prepared=$(jq -r .result_image_uuid <<<"$operation")
  note "image $prepared, the test's exit code: $(jq .metadata.result.state.exit_code <<<"$operation")"
  before=$(content_of "$prepared" /app/add.sh)

  step "Demo: three runs from that one image at the same time, each with another change to add.sh"
  for try in 0 1 2; do
    runs+=("$(start_run "$prepared" "cd /app && sed -i '${changes[try]}' add.sh && sh test.sh")")
  done
  branches=()
  verdicts=()
  for try in 0 1 2; do
    operation=$(wait_run "${runs[try]}")
    branches+=("$(jq -r .result_image_uuid <<<"$operation")")
    if [ "$(jq .metadata.result.state.exit_code <<<"$operation")" = 0 ]; then
      verdicts+=("PASSED")
      winner=${branches[try]}
    else
      verdicts+=("failed")
    fi
    note "sed ${changes[try]}: ${verdicts[try]}"
  done
  [ "$(content_of "$prepared" /app/add.sh)" = "$before" ] || die "the prepared image has changed"
  [ -n "${winner:-}" ] || die "no branch passed its test"
  api PATCH "/v1/images/$winner/tag" '{"tag":"demo:fixed"}' >/dev/null
}

print_branch() {
  printf '%s %s  %-7s %s\n' "$1" "${branches[$2]}" "${verdicts[$2]}" "$(content_of "${branches[$2]}" /app/add.sh)"
}

print_summary() {
  cat <<END

The tree of images (each is a whole file system; every branch still has what its parent had):

  $base  busybox:latest
  └─ $prepared  prepared  $(content_of "$prepared" /app/add.sh)
     $(print_branch '├─' 0)
     $(print_branch '├─' 1)
     $(print_branch '└─' 2)

API     $url
Token   $token_file
Stop    ${COPPICE_STATE+COPPICE_STATE=$state }$PWD/configs/quickstart.sh stop

Go on with:

  curl -s -H "Authorization: Bearer \$(cat $token_file)" $url/v1/instances -d '{"image":"tag:demo:fixed","shell":true,"command":"sh /app/add.sh 40 2"}' | jq -r .uuid
  curl -s -H "Authorization: Bearer \$(cat $token_file)" '$url/v1/operations?limit=1' | jq '.[0]'
  curl -s -H "Authorization: Bearer \$(cat $token_file)" '$url/v1/inspect/$winner/download?path=/app/add.sh'
END
}

case "${1:-}" in
  '')
    prepare_machine
    build_program
    run_daemon
    make_token
    import_base_image
    run_demo
    print_summary
    ;;
  stop) stop_daemon ;;
  *)
    echo "usage: configs/quickstart.sh [stop]" >&2
    exit 2
    ;;
esac
