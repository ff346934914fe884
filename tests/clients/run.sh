#!/bin/bash
# Clients that exist, unmodified, against a live daemon with real VMs: their users arrive by changing
# one URL (docs/clients.md says how, and what of each is covered here).
#
#   tests/clients/run.sh cli|sdk|mcp|schema    each with a daemon, a registry and a token of its own
#
# schema is schemathesis: requests made up from docs/openapi.yaml, answers held against it.
#
# The packages are pinned and come from PyPI into a virtual environment beside the build; where they
# cannot be had this says SKIPPED, which is not passed. COPPICE_BUILD names the build folder.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/../.."
root=$PWD

part=$1
cache=${COPPICE_TEST_CACHE:-${COPPICE_BUILD:-build}/test-cache}
wanted=$(sha256sum tests/clients/requirements.txt | cut -c 1-16)
environment=$(realpath -m "$cache/clients-$wanted")
if [ ! -f "$environment/complete" ]; then
  rm -rf "$environment"
  mkdir -p "$cache"
  python3 -m venv "$environment"
  if ! "$environment/bin/pip" install --quiet --disable-pip-version-check --retries 2 --timeout 20 \
    -r tests/clients/requirements.txt >"$environment/pip.log" 2>&1; then
    cat "$environment/pip.log"
    echo "SKIPPED: the clients could not be installed from PyPI; nothing of them was tested"
    exit 0
  fi
  touch "$environment/complete"
fi

work=$(mktemp -d)
images=$work/registry
COPPICE_TEST_CACHE=$cache tests/integration/registry.sh start "$images"
registry=$(cat "$images/address")
daemon_arguments=("--import.insecure_registries=$registry")
. tests/bench/daemon.sh
# shellcheck disable=SC2154 # state and log are daemon.sh's
finish() {
  local status=$?
  [ $status -eq 0 ] || { echo "-- the end of the daemon's log:"; tail -n 40 "$log"; }
  kill "$daemon" 2>/dev/null || true
  wait "$daemon" 2>/dev/null || true
  "$root/tests/integration/registry.sh" stop "$images"
  rm -rf "$state" "$log" "$work"
  exit $status
}
trap finish EXIT
import_busybox

export PATH=$environment/bin:$PATH
export CONTREE_HOME=$work/home CONTREE_SESSION_DB=$work/sessions.db HOME=$work
export CONTREE_SKIP_UPDATE_CHECK=1 NO_COLOR=1
# shellcheck disable=SC2154
export COPPICE_URL=$url COPPICE_TOKEN=$token COPPICE_REGISTRY=$registry
mkdir "$work/files"
here=$root/tests/clients
cd "$work/files"
case $part in
  cli) bash "$here/cli.sh" ;;
  sdk)
    python3 "$here/sdk_sync.py"
    python3 "$here/sdk_async.py"
    ;;
  mcp) python3 "$here/mcp_session.py" ;;
  schema) bash "$here/schema.sh" "$here/../../docs/openapi.yaml" ;;
  *) echo "clients: no part is called $part" >&2; exit 2 ;;
esac
echo "$part: all went as its users expect"
