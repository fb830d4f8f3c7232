#!/usr/bin/env bash
# fuzz_run.sh - one fuzz target over its seed corpus, for a short slice of time.
#
# usage: fuzz_run.sh PROGRAM FUZZ_DIR NAME      (called by ctest)
# Without HALTERE_FUZZ_SECONDS: 200000 inputs or 10 seconds, from a fixed random seed. With it: that
# many seconds from a new seed. Inputs that crash are kept in the build directory.
set -euo pipefail

program=$1 fuzz_dir=$2 name=$3
corpus=$fuzz_dir/corpus/$name
work=$HALTERE_BUILD_DIR/fuzz-work/$name
mkdir -p "$work/found" "$work/crashes"

seeds=("$corpus"/*)
[ -e "${seeds[0]}" ] || {
    echo "error: no seed corpus in $corpus: a fuzzer that starts from nothing tests nothing"
    exit 1
}
if [ -n "${HALTERE_FUZZ_SECONDS:-}" ]; then
    limits=(-max_total_time="$HALTERE_FUZZ_SECONDS")
else
    rm -rf "$work/found" && mkdir "$work/found"
    limits=(-runs=200000 -max_total_time=10 -seed=1)
fi
if [ -f "$fuzz_dir/$name.dict" ]; then limits+=(-dict="$fuzz_dir/$name.dict"); fi
exec "$program" "${limits[@]}" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -verbosity=1 \
    -artifact_prefix="$work/crashes/" "$work/found" "$corpus"
