# Requests made up from the description of the API, and answers held against it; called by run.sh.
set -euo pipefail
shopt -s inherit_errexit

description=$1
# Hooks make runs disposable ones of an image that is there; they are short.
export SCHEMATHESIS_HOOKS=${BASH_SOURCE[0]%/*}/schema_hooks.py
export PYTHONHASHSEED=1 # what the hooks choose by a hash is the same in every run
# hold ADDRESS ARGUMENT...: the parts of the description that are there, within six minutes.
hold() {
  timeout 360 schemathesis run "$description" --url "$1" \
    --header "Authorization: Bearer $COPPICE_TOKEN" --max-examples 25 --seed 1 --no-color \
    --checks is_no_server_error,status_code_conformance,content_type_conformance,response_schema_conformance \
    --phases examples,coverage,fuzzing "${@:2}"
}
outside='^/(healthz|readyz|metrics|openapi.yaml|docs)'
hold "$COPPICE_URL" --include-path-regex "$outside"
hold "$COPPICE_URL/v1" --exclude-path-regex "$outside"
# The same goes on with other requests for as long as it may.
[ -z "${COPPICE_TEST_FULL:-}" ] ||
  hold "$COPPICE_URL/v1" --exclude-path-regex "$outside" --max-time 300
