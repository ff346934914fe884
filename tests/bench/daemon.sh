# Sourced by what measures or tries a daemon: starts one on a state folder of its own, with
# daemon_arguments if those are set, and ends it with the script. Sets state, log (outside of state,
# so that it is not counted there), url and token.

build=${COPPICE_BUILD:-build}
state=$(mktemp -d)
log=$(mktemp)
"$build/coppice" serve "--state_dir=$state" --http.listen=127.0.0.1:0 ${daemon_arguments[@]+"${daemon_arguments[@]}"} >"$log" 2>&1 </dev/null &
daemon=$!
trap 'kill $daemon 2>/dev/null; wait $daemon 2>/dev/null || true; rm -rf "$state" "$log"' EXIT

url=
for _ in $(seq 600); do
  url=$(sed -n 's/.*msg=ready url=\([^ ]*\).*/\1/p' "$log")
  [ -z "$url" ] || break
  kill -0 $daemon || { cat "$log"; exit 1; }
  sleep 0.1
done
token=$("$build/coppice" token create --project default "--state-dir=$state" | tail -n 1)

# import_busybox: the base image, as busybox:latest.
import_busybox() {
  local layout
  layout=$(mktemp -d)
  chmod 755 "$layout" # the daemon gives root up
  configs/base-image/build.sh "$layout" >/dev/null
  "$build/coppice" import "oci:$layout" --tag busybox:latest "--state-dir=$state" >/dev/null
  rm -r "$layout"
}

# call URL [CURL ARGUMENTS]
call() {
  curl -fsS -H "Authorization: Bearer $token" "$@"
}

# run IMAGE COMMAND: gives the operation when it has succeeded.
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
    sleep 0.01
  done
  printf '%s\n' "$operation"
}
