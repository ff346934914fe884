#!/bin/bash
# The HTTP API beside nginx and grep (docs/benchmarks.md says what each row means).
#
#   tests/bench/run.sh api [PART...]    download list grep poll idle; all by default
#
# One daemon with its defaults, but for templates: none are made, so that no VM boots while
# something is timed. Its log goes to a file, as nginx's does.
set -euo pipefail
shopt -s inherit_errexit

parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(download list grep poll idle)

daemon_arguments=(--pool.templates=false --pool.ceiling=0)
. tests/bench/daemon.sh
work=$(mktemp -d)
mkdir -p "$work/root/data" "$work/site"
chmod 755 "$work" # nginx's workers and the daemon give root up
cleanup() {
  [ ! -s "$work/nginx.pid" ] || kill "$(cat "$work/nginx.pid")"
  kill $daemon 2>/dev/null && wait $daemon 2>/dev/null || true
  rm -rf "$state" "$log" "$work"
}
trap cleanup EXIT
. tests/bench/api_peers.sh
. tests/bench/api_image.sh

client() {
  python3 tests/bench/api_client.py "$1" --daemon "$url,$daemon,$token" "${@:2}"
}

install_peers
image=
operation=
for part in "${parts[@]}"; do
  printf '\n== %s\n' "$part"
  case $part in
    download | list | grep)
      [ -n "$image" ] || image=$(import_python "$work")
      ;;
    poll | idle)
      if [ -z "$operation" ]; then
        import_busybox
        operation=$(run tag:busybox:latest 'echo hello' | jq -r .uuid)
        call "$url/v1/operations/$operation" -o "$work/site/operation.json"
      fi
      ;;
  esac
  case $part in
    download)
      start_nginx auto "$work/root/data"
      client download --ours "/v1/inspect/$image/download?path=/data/big" \
        --theirs "$nginx_url/big" --plain "$work/root/data/big"
      stop_nginx
      ;;
    list) client list --ours "/v1/inspect/$image/list?path=/usr/lib/python3/dist-packages" ;;
    grep) client grep --ours "/v1/inspect/$image/grep" --plain "$work/root/usr/lib/python3" ;;
    poll)
      start_nginx 1 "$work/site"
      client poll --ours "/v1/operations/$operation" --theirs "$nginx_url/operation.json" \
        --theirs-pid "$(cat "$work/nginx.pid")"
      stop_nginx
      ;;
    idle) client idle --ours "/v1/operations/$operation" ;;
    *)
      echo "api: no part is called $part" >&2
      exit 2
      ;;
  esac
done
