#!/usr/bin/env bash
# check_install.sh - cmake --install puts everything where a packager expects it.
set -euo pipefail

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
DESTDIR=$stage cmake --install "$HALTERE_BUILD_DIR" --prefix /usr >"$stage/log" || {
    cat "$stage/log"
    exit 1
}

failed=0
want() # want PATTERN: some installed file's path ends like this
{
    if ! (cd "$stage" && find . -type f -path "./$1" | grep -q .); then
        echo "not installed: $1"
        failed=1
    fi
}

want '*/bin/haltere'
want '*/lib*/mosquitto_haltere.so'
want '*/share/doc/haltere/LICENSE'
cd "$HALTERE_SOURCE_DIR"
[ ! -f cli/haltere.1 ] || want '*/share/man/man1/haltere.1'
[ ! -f mosquitto.conf.example ] || want '*/share/doc/haltere/mosquitto.conf.example'
for policy in acl/policies/*.acl; do
    [ ! -f "$policy" ] || want "*etc/haltere/policies/$(basename "$policy")"
done
while IFS= read -r example; do
    want "*/share/doc/haltere/$example"
done < <(find examples -type f ! -path '*/__pycache__/*')

# Nothing of the build machine may stay in what is shipped: no run path.
if readelf -d "$stage"/usr/bin/haltere "$stage"/usr/lib*/mosquitto_haltere.so \
    "$stage"/usr/lib/*/mosquitto_haltere.so 2>/dev/null | grep -E 'R(UN)?PATH'; then
    echo "an installed file has a run path"
    failed=1
fi
[ "$failed" = 0 ] || (cd "$stage" && find . -type f | sort)
exit $failed
