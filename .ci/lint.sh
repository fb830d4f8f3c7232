#!/usr/bin/env bash
# lint.sh - format, cppcheck and clang-tidy over all sources, with the settings of the tree.
#
# usage: .ci/lint.sh [BUILD_DIR]   (a configured build directory; default: build)
set -euo pipefail

cd "$(dirname "$0")/.."
build=${1:-build}
jobs=$(nproc)
log=$(mktemp -d)
trap 'rm -rf "$log"' EXIT
failed=0

[ -f "$build/compile_commands.json" ] || {
    echo "lint: error: $build has no compile_commands.json; configure it first" >&2
    exit 1
}

step() # step NAME COMMAND...: runs it, shows its output only when it complains
{
    local name=$1 start=$SECONDS
    shift
    if "$@" >"$log/$name" 2>&1; then
        printf 'lint: %s: ok (%d s)\n' "$name" $((SECONDS - start))
    else
        printf 'lint: %s: FAILED\n' "$name"
        grep -vE '^[0-9]+ warnings? (generated|treated)|^Suppressed |^Use -header-filter' \
            "$log/$name" | head -n 200
        failed=1
    fi
}

shopt -s nullglob
all=({shared,acl,plugin,cli,tests,tests/unit,tests/fuzz,tests/bench}/*.[ch])
# Test programs are mostly assertion macros, on which clang-tidy has nothing to say but a lot.
ours=({shared,acl,plugin,cli}/*.c)
[ ${#ours[@]} -gt 0 ] || { echo "lint: no sources" >&2; exit 1; }

tidy()
{
    printf '%s\n' "${ours[@]}" | xargs -P "$jobs" -n 1 \
        clang-tidy -p "$build" --quiet --warnings-as-errors='*'
}

format() # the names of the files are enough: clang-format -i mends them
{
    local file rc=0
    for file in "${all[@]}"; do
        if ! clang-format --dry-run -Werror "$file" >/dev/null 2>&1; then
            echo "$file: run clang-format -i"
            rc=1
        fi
    done
    return $rc
}

step clang-format format
step cppcheck cppcheck -j "$jobs" --quiet --enable=warning,performance,portability \
    --inline-suppr --std=c11 --error-exitcode=1 plugin acl shared cli
step clang-tidy tidy
exit $failed
