#!/usr/bin/env bash
# check_exported_symbols.sh - the module shows the broker its three entry points and nothing else.
#
# Debian's 2.0.11 broker exports plain names such as `run` and `db`; a visible symbol of ours with
# such a name would be replaced by the broker's.
set -euo pipefail

wanted=$(printf '%s\n' mosquitto_plugin_cleanup mosquitto_plugin_init mosquitto_plugin_version)
have=$(nm --dynamic --defined-only --format=posix "$HALTERE_PLUGIN" | cut -d' ' -f1 | sort)
if [ "$have" != "$wanted" ]; then
    echo "exported symbols (< wanted, > found):"
    diff <(echo "$wanted") <(echo "$have")
    exit 1
fi
