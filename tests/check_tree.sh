#!/usr/bin/env bash
# check_tree.sh - no tracked file names a package host or a path of the machine it was written on.
#
# The build asks apt for its mirror, so that it works behind any; a host in a file would be a
# second truth. Paths of one's own checkout or home work on one machine only.
set -euo pipefail

cd "$HALTERE_SOURCE_DIR"
if ! command -v git >/dev/null || ! git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
    echo "skipped: $HALTERE_SOURCE_DIR is not a git checkout"
    exit 77
fi

failed=0
refuse() # refuse WHAT GREP_ARGUMENTS...
{
    local what=$1
    shift
    if git grep -nI "$@"; then
        echo "the lines above name $what"
        failed=1
    else
        [ $? = 1 ] || failed=1
    fi
}

# The bracket keeps this very line from matching itself.
refuse "a package host" -iE \
    '(deb|security|snapshot|ftp|archive|ports)[.](debian|ubuntu)[.](org|com)|(pypi|pythonhosted|npmjs|nodesource|packagecloud|launchpadcontent)[.](org|com|net)'
# A checkout at / or /src says nothing; one with two folders or more is somebody's own.
case $HALTERE_SOURCE_DIR in
/*/*) refuse "this checkout's own path" -F "$HALTERE_SOURCE_DIR" ;;
esac
refuse "somebody's home folder" -E '/(home/[a-z_][a-z0-9_-]*|root)/[A-Za-z0-9.]'
exit $failed
