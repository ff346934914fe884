#!/bin/bash
# The test command: on a fresh Debian 12, as root, from a fresh clone.
#
#   tests/run.sh         everything, in less than 45 minutes on two cores
#   tests/run.sh full    the same with the long variants of the tests and longer fuzzing
#
# Stages run in order and the first that fails ends it. Build folders: build/, build-asan/,
# build-fuzz/. The last line counts the test programs that ctest ran.
set -euo pipefail
shopt -s inherit_errexit
exec </dev/null
cd "$(dirname "$0")/.."

fuzz_seconds=10
case "${1:-}" in
  '') ;;
  full) export COPPICE_TEST_FULL=1; fuzz_seconds=60 ;;
  *) echo "usage: tests/run.sh [full]" >&2; exit 2 ;;
esac

passed=0
failed=0
stage_name=
stage_start=0
started=$SECONDS

finish_stage() {
  [ -z "$stage_name" ] || printf -- '-- %s: ok, %d s\n' "$stage_name" $((SECONDS - stage_start))
}

stage() {
  finish_stage
  stage_name=$1
  stage_start=$SECONDS
  printf '\n== %s\n' "$stage_name"
}

on_exit() {
  status=$?
  if [ $status -ne 0 ]; then
    printf -- '\n-- %s: FAILED after %d s\n%d passed, %d failed\n' \
      "${stage_name:-start}" $((SECONDS - stage_start)) "$passed" "$((failed > 0 ? failed : 1))"
  fi
}
trap on_exit EXIT

# A compiler process of this code base needs up to 1.5 GiB.
jobs=$(awk -v cores="$(nproc)" '/^MemTotal/ { m = int($2 / 1572864); if (m < 1) m = 1
  print (m < cores ? m : cores) }' /proc/meminfo)

# run_tests FOLDER PARALLEL CTEST-ARGUMENT... : runs, counts, and fails when none was run.
run_tests() {
  local folder=$1 parallel=$2 report status=0 total bad
  shift 2
  report=$(pwd)/$folder/test-report.xml
  rm -f "$report"
  ctest --test-dir "$folder" -j "$parallel" --output-on-failure --no-tests=error \
    --output-junit "$report" "$@" || status=$?
  if [ -f "$report" ]; then
    total=$(grep -c '<testcase ' "$report" || true)
    bad=$(grep -c '<testcase .*status="fail"' "$report" || true)
    passed=$((passed + total - bad))
    failed=$((failed + bad))
  fi
  return $status
}

# The targets of the tests with a label that this build folder can make.
test_targets() {
  local folder=$1 label=$2
  comm -12 \
    <(ctest --test-dir "$folder" -N -L "$label" | sed -n 's/^ *Test *#[0-9]*: //p' | sort -u) \
    <(ninja -C "$folder" -t targets all | sed -n 's/: phony$//p' | sort -u)
}

sources() {
  # The folder may belong to another user than the one that runs the tests.
  git -c safe.directory='*' ls-files -- "$@" 2>/dev/null ||
    for pattern in "$@"; do
      find actors configs gateway protocol storage tests vmm .ci -name "$pattern" -type f
    done
}

stage "packages"
configs/install_packages.sh test

stage "format and shell syntax"
mapfile -t files < <(sources '*.cpp' '*.hpp' | sort)
clang-format-14 --dry-run -Werror "${files[@]}"
mapfile -t scripts < <(sources '*.sh' '.ci/run' | sort)
for script in "${scripts[@]}"; do
  bash -n "$script"
done
echo "${#files[@]} sources and ${#scripts[@]} scripts are in order"

stage "build"
cmake -G Ninja -S . -B build -DCMAKE_BUILD_TYPE=RelWithDebInfo >build-configure.log 2>&1 ||
  { cat build-configure.log; exit 1; }
rm -f build-configure.log
ninja -C build -j "$jobs"

if [ -n "${COPPICE_TEST_FULL:-}" ]; then
  stage "a guest kernel of our own"
  configs/guest/kernel.sh build build/coppice-agent
fi

stage "unit tests"
# One more than there are cores: the longest of them waits for time-outs most of the time.
run_tests build "$(($(nproc) + 1))" -L unit

stage "integration tests and tests in microVMs"
run_tests build 1 -L 'integration|vm'

stage "unit tests under AddressSanitizer and UndefinedBehaviorSanitizer"
cmake -G Ninja -S . -B build-asan -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCOPPICE_SANITIZE=ON >/dev/null
mapfile -t targets < <(test_targets build-asan unit)
ninja -C build-asan -j "$jobs" "${targets[@]}"
run_tests build-asan "$(nproc)" -L unit

stage "fuzzing, $fuzz_seconds s for each target"
cmake -G Ninja -S . -B build-fuzz -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCOPPICE_FUZZ=ON \
  -DCMAKE_C_COMPILER=clang-14 -DCMAKE_CXX_COMPILER=clang++-14 >/dev/null
ninja -C build-fuzz -j "$jobs"
# fuzz TARGET : its words are shown if it finds something.
fuzz() {
  local target=$1 name grown folder seeds=() log
  name=$(basename "$target")
  grown=build-fuzz/corpus/$name # what it finds is kept, so that the next run starts from there
  log=build-fuzz/$name.log
  mkdir -p "$grown" build-fuzz/crashes
  for folder in "tests/fuzz/corpus/$name" "tests/fuzz/corpus/${name%_fuzz}"; do
    [ ! -d "$folder" ] || seeds+=("$folder")
  done
  "$target" -max_total_time="$fuzz_seconds" -timeout=60 -rss_limit_mb=2048 -verbosity=0 \
    -print_final_stats=0 -artifact_prefix="build-fuzz/crashes/$name-" \
    "$grown" ${seeds[@]+"${seeds[@]}"} >"$log" 2>&1 || { cat "$log"; echo "$name: FAILED"; return 1; }
  echo "$name: no finding"
}
export -f fuzz
export fuzz_seconds
mapfile -t targets < <(find build-fuzz/tests/fuzz -maxdepth 1 -type f -name '*_fuzz' -perm -u+x | sort)
[ "${#targets[@]}" -gt 0 ] || { echo "no fuzz target was built" >&2; exit 1; }
printf '%s\0' "${targets[@]}" | xargs -0 -n 1 -P "$(nproc)" bash -c 'fuzz "$1"' fuzz
echo "${#targets[@]} targets, no finding"

finish_stage
stage_name=
printf '\nall stages passed in %d s\n%d passed, %d failed\n' $((SECONDS - started)) "$passed" "$failed"
