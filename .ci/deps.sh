#!/usr/bin/env bash
# deps.sh - the one place that installs what building (and with --tests, testing) Haltere needs.
#
# Silent and offline when everything is there. Otherwise it installs the missing Debian packages,
# nothing recommended, and then lets libjwt.sh build the one library Debian 12 does not have.
set -euo pipefail

build_packages=(
    gcc libc6-dev make cmake pkg-config git ca-certificates openssl
    libssl-dev libjson-c-dev libcjson-dev liblmdb-dev libxxhash-dev libsodium-dev
    mosquitto mosquitto-clients mosquitto-dev libmosquitto-dev
    python3 python3-paho-mqtt
)
test_packages=(
    libcriterion-dev clang clang-tidy clang-format libclang-rt-dev cppcheck lmdb-utils
)

usage()
{
    cat <<'END'
usage: .ci/deps.sh [--tests] [--help]

Installs the Debian packages Haltere is built from and builds libjwt (see .ci/libjwt.sh --help).
Does nothing when all of it is there.

  --tests   also what the test suite and the lint need
END
}

say() { printf 'deps: %s\n' "$*" >&2; }

die()
{
    say "error: $*"
    exit 1
}

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

has_candidate()
{
    apt-cache policy "$1" 2>/dev/null | grep -E '^  Candidate: ' | grep -qv '(none)'
}

# The package starts its broker when it is installed and at every boot. Somebody who came for a
# module did not ask for a listener on port 1883, so a broker that was not here before stays off.
readonly policy=/usr/sbin/policy-rc.d
held=no

hold_services()
{
    [ "$held" = no ] || return 0
    if [ -e "$policy" ]; then "${as_root[@]}" mv "$policy" "$policy.haltere-saved"; fi
    held=yes
    trap release_services EXIT
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 755 "$policy"
}

release_services()
{
    [ "$held" = yes ] || return 0
    held=no
    "${as_root[@]}" rm -f "$policy"
    if [ -e "$policy.haltere-saved" ]; then
        "${as_root[@]}" mv "$policy.haltere-saved" "$policy"
    fi
}

keep_broker_off()
{
    if command -v systemctl >/dev/null; then
        "${as_root[@]}" systemctl --quiet disable mosquitto.service >/dev/null 2>&1 || true
    else
        "${as_root[@]}" update-rc.d mosquitto disable >/dev/null 2>&1 || true
    fi
    say "the system's mosquitto service was left stopped and disabled (it was not here before)"
}

install_missing() # install_missing PACKAGE...
{
    local package fresh_broker=no apt log update=no
    command -v apt-get >/dev/null && command -v dpkg-query >/dev/null ||
        die "this is not a Debian-like system (no apt-get); install by hand: $*"
    if [ "$(id -u)" = 0 ]; then
        as_root=(env)
    elif command -v sudo >/dev/null; then
        as_root=(sudo)
    else
        die "not root and no sudo; as root run: apt-get install --no-install-recommends $*"
    fi
    for package in "$@"; do
        has_candidate "$package" || update=yes
        [ "$package" != mosquitto ] || fresh_broker=yes
    done
    apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y
        -o DPkg::Lock::Timeout=120 -o Acquire::Retries=2)
    log=$(mktemp)
    if [ "$update" = yes ]; then
        say "refreshing the package lists"
        "${apt[@]}" update >"$log" 2>&1 || say "apt-get update complained: $(grep -m1 -E '^[EW]:' "$log")"
    fi
    say "installing: $*"
    if [ "$fresh_broker" = yes ]; then hold_services; fi
    if ! "${apt[@]}" install --no-install-recommends "$@" >"$log" 2>&1; then
        # Lists older than the archive name files that are gone.
        "${apt[@]}" update >/dev/null 2>&1 || true
        if ! "${apt[@]}" install --no-install-recommends "$@" >"$log" 2>&1; then
            tail -n 15 "$log" >&2
            rm -f "$log"
            die "apt-get could not install the packages (its last lines are above)"
        fi
    fi
    rm -f "$log"
    release_services
    if [ "$fresh_broker" = yes ]; then keep_broker_off; fi
}

wanted=("${build_packages[@]}")
for argument in "$@"; do
    case $argument in
    --tests) wanted+=("${test_packages[@]}") ;;
    --help | -h) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
    esac
done

missing=()
for package in "${wanted[@]}"; do
    installed "$package" || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then install_missing "${missing[@]}"; fi

"$(dirname "$0")/libjwt.sh" >/dev/null
