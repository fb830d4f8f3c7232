#!/usr/bin/env bash
# check_linkage.sh - what the two artefacts load: no jansson, and no libmosquitto in the module.
set -euo pipefail

failed=0
refuse() # refuse FILE LIBRARY WHY
{
    local loaded
    loaded=$(ldd "$1")
    if grep -q "not found" <<<"$loaded"; then
        echo "$1: a library is not found:"
        grep "not found" <<<"$loaded"
        failed=1
    fi
    if grep -q "$2" <<<"$loaded"; then
        echo "$1 loads $2: $3"
        failed=1
    fi
}

clash="its json_object_get() and others clash with json-c's"
refuse "$HALTERE_PLUGIN" jansson "$clash"
refuse "$HALTERE" jansson "$clash"
refuse "$HALTERE_PLUGIN" libmosquitto "the broker has its own copies of those functions"
# jansson could also have come in statically.
for file in "$HALTERE_PLUGIN" "$HALTERE"; do
    if nm "$file" | grep -E ' [TtUw] (json_loadb|json_dumps|jansson_version)'; then
        echo "$file contains jansson: $clash"
        failed=1
    fi
done
readelf -d "$HALTERE_PLUGIN" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/module needs \1/p'
exit $failed
