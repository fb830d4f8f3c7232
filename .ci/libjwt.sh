#!/usr/bin/env bash
# libjwt.sh - a static, hidden libjwt with json-c for our build; the last line on stdout is its prefix.
#
# Why not the distribution's: Debian 12 has 1.10 and newer suites build theirs with jansson, whose
# json_object_get() and friends clash with json-c in the broker's address space. 3.3.3 is the
# oldest version without CVE-2026-44699, so nothing below it is ever accepted.
#
# The source is Debian's own package, fetched by apt from the mirror this machine already uses, so
# the chain of trust is apt's signatures, plus a pinned sha256. apt runs on private directories:
# the machine's sources and lists stay as they are, and no root is needed.
set -euo pipefail

readonly package=libjwt3
readonly pinned_version=3.3.3
readonly pinned_revision=3.3.3-1
readonly pinned_sha256=a562e5548a8e10ac6fcba64a5e6d326c15712211cb54d25242c15e8b3250b4f2
readonly min_version=3.3.3
readonly suites=(forky sid)

usage()
{
    cat <<'END'
usage: .ci/libjwt.sh [--help]

Builds libjwt (>= 3.3.3, json-c, static, hidden symbols) once and prints its prefix as the last
line on stdout. Does nothing when it is already there.

  HALTERE_LIBJWT_TARBALL=FILE  build from this libjwt source tarball instead of fetching one
  XDG_CACHE_HOME=DIR           the result is kept in DIR/haltere (default ~/.cache/haltere)
END
}

say() { printf 'libjwt: %s\n' "$*" >&2; }

die()
{
    say "error: $*"
    exit 1
}

way_out="fetch a libjwt source tarball (>= $min_version) elsewhere and set HALTERE_LIBJWT_TARBALL=FILE"

at_least() # at_least VERSION MINIMUM
{
    [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n1)" = "$2" ]
}

sha256_of() { sha256sum -- "$1" | cut -d' ' -f1; }

is_complete() { [ -f "$1/lib/libjwt.a" ] && [ -f "$1/include/jwt.h" ] && [ -f "$1/VERSION" ]; }

finish() # the contract with CMake: the prefix, alone, last
{
    printf '%s\n' "$1"
    exit 0
}

# A system libjwt counts only when it is new enough and no jansson comes with it.
system_prefix()
{
    local libdir prefix so
    command -v pkg-config >/dev/null && pkg-config --atleast-version="$min_version" libjwt || return 1
    libdir=$(pkg-config --variable=libdir libjwt)
    prefix=$(pkg-config --variable=prefix libjwt)
    so=$libdir/libjwt.so
    [ -e "$so" ] && [ -f "$(pkg-config --variable=includedir libjwt)/jwt.h" ] || return 1
    if ldd "$so" | grep -q jansson; then
        say "the system's libjwt $(pkg-config --modversion libjwt) uses jansson: not used"
        return 1
    fi
    [ ! -f "$libdir/libjwt.a" ] || archive_is_clean "$libdir/libjwt.a" || return 1
    say "using the system's libjwt $(pkg-config --modversion libjwt)"
    printf '%s\n' "$prefix"
}

archive_is_clean() # json-c's calls are there and jansson's are not
{
    local symbols
    symbols=$(nm "$1" 2>/dev/null)
    grep -q ' U json_tokener_' <<<"$symbols" || return 1
    ! grep -qE ' U (json_load|json_dump|json_string_value|json_integer_value|json_delete|jansson_)' \
        <<<"$symbols"
}

# The mirrors of the running release, best first; asked from apt so that no host is written here.
# CODENAME is known only where the lists were fetched; a bare machine has RELEASE, as configured.
mirrors()
{
    local codename targets
    codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
    targets='$(REPO_URI)|$(CODENAME)|$(RELEASE)|$(COMPONENT)'
    {
        apt-get indextargets --format "$targets" 'Created-By: Packages'
        apt-get indextargets --no-release-info --format "$targets" 'Created-By: Packages'
    } | awk -F'|' -v want="$codename" '
            $4 == "main" && $1 !~ /^cdrom/ {
                rank = (want != "" && ($2 == want || $3 == want)) ? 1 : 2
                print rank "|" $1
            }' | sort -t'|' -k1,1n -s | cut -d'|' -f2 | awk '!seen[$0]++'
}

aptp() # apt on private directories under $work
{
    apt-get -q -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts="$work/parts" \
        -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/aptcache" \
        -o APT::Sandbox::User="$(id -un)" -o Acquire::AllowInsecureRepositories=false \
        -o Acquire::Languages=none -o APT::Update::Post-Invoke::= -o Acquire::Retries=2 "$@"
}

try_suite() # try_suite KEYRING URI SUITE: leaves the tarball in $work/src
{
    rm -rf "$work/lists" "$work/src"
    mkdir -p "$work/lists/partial" "$work/aptcache/archives/partial" "$work/parts" "$work/src"
    printf 'deb-src [signed-by=%s] %s %s main\n' "$1" "$2" "$3" >"$work/sources.list"
    say "asking the configured Debian mirror's $3 for $package"
    if ! aptp --error-on=any update >"$work/log" 2>&1; then
        cat "$work/log" >>"$work/all.log"
        return 1
    fi
    (
        cd "$work/src"
        aptp source --only-source --download-only "$package=$pinned_revision" >"$work/log" 2>&1 && exit 0
        cat "$work/log" >>"$work/all.log"
        rm -f -- *
        aptp source --only-source --download-only "$package" >"$work/log" 2>&1 && exit 0
        cat "$work/log" >>"$work/all.log"
        exit 1
    )
}

fetch() # sets tarball
{
    local keyring uri suite found name version
    command -v apt-get >/dev/null || die "no apt-get here; $way_out"
    keyring=$(dpkg -L debian-archive-keyring 2>/dev/null |
        grep -E '/debian-archive-keyring[.](gpg|pgp)$' | head -n1) ||
        die "package debian-archive-keyring is missing: install it, or $way_out"
    : >"$work/all.log"
    for uri in $(mirrors); do
        for suite in "${suites[@]}"; do
            try_suite "$keyring" "$uri" "$suite" || continue
            found=$(find "$work/src" -name "${package}_*.orig.tar.*" ! -name '*.asc' | head -n1)
            [ -n "$found" ] || continue
            name=$(basename "$found")
            version=${name#"${package}"_}
            version=${version%.orig.tar.*}
            if [ "$version" = "$pinned_version" ]; then
                [ "$(sha256_of "$found")" = "$pinned_sha256" ] ||
                    die "$name does not have the pinned sha256 $pinned_sha256: refused"
            elif at_least "$version" "$min_version" && [[ $version == 3.* ]]; then
                say "the archive no longer has $pinned_version: using $version by its signed index"
            else
                say "the archive's $suite has only $version (needed: 3.x >= $min_version)"
                continue
            fi
            mv "$found" "$cache/$name"
            tarball=$cache/$name
            return
        done
    done
    sed 's/^/libjwt:   apt: /' "$work/all.log" | grep -E 'E:|W:|Err' | tail -n 8 >&2 || true
    if grep -q -i 'expired' "$work/all.log"; then
        die "the archive's index is past its Valid-Until and apt refuses it; $way_out"
    fi
    die "no configured mirror gave a usable $package source; is the network there? Otherwise $way_out"
}

build() # build TARBALL SHA256: sets prefix
{
    local version stage
    mkdir -p "$work/x"
    tar -xf "$1" -C "$work/x" --strip-components=1 || die "$1 is not a tarball"
    [ -f "$work/x/CMakeLists.txt" ] && [ -f "$work/x/include/jwt.h" ] ||
        die "$1 is not a libjwt source tarball (no CMakeLists.txt or include/jwt.h)"
    env -u CFLAGS -u CPPFLAGS -u LDFLAGS cmake -S "$work/x" -B "$work/b" \
        -DCMAKE_BUILD_TYPE=Release -DCMAKE_C_FLAGS=-Wno-error -DWITH_JSON_C=ON \
        -DWITH_GNUTLS=OFF -DWITH_MBEDTLS=OFF -DWITH_LIBCURL=OFF -DWITH_TESTS=OFF \
        -DCMAKE_DISABLE_FIND_PACKAGE_Doxygen=ON -DCMAKE_C_VISIBILITY_PRESET=hidden \
        -DCMAKE_POSITION_INDEPENDENT_CODE=ON >"$work/build.log" 2>&1 ||
        build_failed "$1 does not configure"
    version=$(sed -n 's/^CMAKE_PROJECT_VERSION:STATIC=//p' "$work/b/CMakeCache.txt")
    [[ $version =~ ^[0-9]+([.][0-9]+)+$ ]] || die "cannot read libjwt's version from $1"
    at_least "$version" "$min_version" || die "$1 is libjwt $version; $min_version or later is needed"
    say "building libjwt $version (sha256 $2)"
    cmake --build "$work/b" --target jwt_static -j2 >"$work/build.log" 2>&1 ||
        build_failed "libjwt $version does not build"
    archive_is_clean "$work/b/libjwt.a" || die "the built libjwt.a is not json-c only: refused"
    # Staged beside its final place and renamed, so a reader sees all of it or nothing.
    prefix=$cache/libjwt-$version-${2:0:12}
    stage=$work/stage
    mkdir -p "$stage/include" "$stage/lib"
    cp "$work"/x/include/*.h "$work"/b/jwt_export.h "$stage/include/"
    cp "$work/b/libjwt.a" "$stage/lib/"
    printf 'version=%s\nsha256=%s\n' "$version" "$2" >"$stage/VERSION"
    rm -rf "$prefix"
    mv "$stage" "$prefix"
}

build_failed()
{
    tail -n 20 "$work/build.log" >&2
    die "$1 (the end of its output is above)"
}

# One's own tarball, or else the pinned version, or else an earlier build from a newer archive or
# from a tarball of one's own.
built_before()
{
    local candidate candidates
    if [ -n "$own" ]; then
        candidates=("$cache"/libjwt-*-"${sha:0:12}")
    else
        candidates=("$pinned_prefix" "$cache"/libjwt-3.*-*)
    fi
    for candidate in "${candidates[@]}"; do
        if is_complete "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    return 1
}

case ${1:-} in
'') ;;
--help | -h) usage && exit 0 ;;
*) usage >&2 && exit 2 ;;
esac

[ -n "${XDG_CACHE_HOME:-}${HOME:-}" ] || die "neither XDG_CACHE_HOME nor HOME is set"
cache=$(realpath -m -- "${XDG_CACHE_HOME:-$HOME/.cache}/haltere")
pinned_prefix=$cache/libjwt-$pinned_version-${pinned_sha256:0:12}
own=${HALTERE_LIBJWT_TARBALL:-}
sha=

if [ -n "$own" ]; then
    [ -r "$own" ] && [ -f "$own" ] || die "HALTERE_LIBJWT_TARBALL=$own: no such readable file"
    sha=$(sha256_of "$own")
    say "HALTERE_LIBJWT_TARBALL=$own (sha256 $sha)"
fi
if prefix=$(built_before); then finish "$prefix"; fi
if [ -z "$own" ] && prefix=$(system_prefix); then finish "$prefix"; fi

for tool in cmake cc make nm tar flock; do
    command -v "$tool" >/dev/null || die "$tool is missing; .ci/deps.sh installs what the build needs"
done
mkdir -p "$cache"
# Two builds at once: the second waits, then finds the work done.
exec 9>"$cache/lock"
flock 9
if prefix=$(built_before); then finish "$prefix"; fi

work=$(mktemp -d "$cache/work.XXXXXX")
trap 'rm -rf "$work"' EXIT

if [ -n "$own" ]; then
    tarball=$own
else
    tarball=$cache/${package}_$pinned_version.orig.tar.gz
    if [ ! -f "$tarball" ] || [ "$(sha256_of "$tarball")" != "$pinned_sha256" ]; then fetch; fi
    sha=$(sha256_of "$tarball")
fi
build "$tarball" "$sha"
finish "$prefix"
