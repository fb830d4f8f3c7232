#!/usr/bin/env bash
# run.sh - builds Haltere twice (as shipped, and under sanitizers), lints it, runs every test.
set -euo pipefail

cd "$(dirname "$0")/.."

usage()
{
    cat <<'END'
usage: tests/run.sh [--release-only | --asan-only] [--no-lint] [--long] [--help]

Installs what is missing (.ci/deps.sh --tests), builds into build/ and build-asan/ with warnings
as errors, lints, and runs all tests in both builds. Exits non-zero if anything failed.

  --release-only   only build/
  --asan-only      only build-asan/ (the one with the fuzz targets)
  --no-lint        no clang-format, cppcheck, clang-tidy
  --long           every fuzz target for 300 s instead of 10 (HALTERE_FUZZ_SECONDS sets any time)

MOSQUITTO names another broker to test with, MOSQUITTO_2_1 one of 2.1 for what is asked of both versions.
END
}

builds=(release asan)
lint=yes
for argument in "$@"; do
    case $argument in
    --release-only) builds=(release) ;;
    --asan-only) builds=(asan) ;;
    --no-lint) lint=no ;;
    --long) export HALTERE_FUZZ_SECONDS=${HALTERE_FUZZ_SECONDS:-300} ;;
    --help | -h) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
    esac
done

jobs=$(nproc)
summary=()
failed=0

say() { printf '== %s (%d s)\n' "$*" "$SECONDS"; }

result() # result TEXT OK: remembers a line for the end
{
    summary+=("$1")
    if [ "$2" != 0 ]; then failed=1; fi
}

directory_of() { [ "$1" = release ] && echo build || echo build-asan; }

say "dependencies"
.ci/deps.sh --tests

log=$(mktemp)
trap 'rm -f "$log"' EXIT
ready=()
for preset in "${builds[@]}"; do
    directory=$(directory_of "$preset")
    say "build $preset in $directory/"
    if ! cmake --preset "$preset" -DHALTERE_WERROR=ON -DHALTERE_TESTS_REQUIRED=ON >"$log" 2>&1 ||
        ! cmake --build "$directory" --parallel "$jobs" >"$log" 2>&1; then
        grep -E -A4 'error|Error|undefined reference' "$log" | head -n 60 || tail -n 30 "$log"
        result "$preset: the build FAILED" 1
        continue
    fi
    ready+=("$preset")
done

if [ "$lint" = yes ] && [ -f "$(directory_of "${builds[0]}")/compile_commands.json" ]; then
    say "lint"
    rc=0
    .ci/lint.sh "$(directory_of "${builds[0]}")" || rc=$?
    if [ "$rc" = 0 ]; then result "lint: clean" 0; else result "lint: FAILED" 1; fi
fi

for preset in ${ready[@]+"${ready[@]}"}; do
    say "test $preset"
    rc=0
    ctest --test-dir "$(directory_of "$preset")" --parallel "$jobs" --output-on-failure \
        --no-tests=error 2>&1 | tee "$log" || rc=$?
    line=$(grep -E '^[0-9]+% tests passed' "$log" || echo "no result")
    result "$preset: $line" "$rc"
done

say "done"
printf '%s\n' "${summary[@]}"
exit $failed
