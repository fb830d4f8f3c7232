#!/usr/bin/env bash
# check_undefined_symbols.sh - all the module leaves open is in its libraries or is the broker's.
#
# The linker cannot check this: the broker's functions are resolved when it loads the module, so
# undefined symbols must be allowed, and a forgotten one would only show at dlopen. The oldest
# brokers do not export all of mosquitto_*: those must be weak.
set -euo pipefail

names() { sed 's/@.*//' | sort -u; }

strong=$(nm --dynamic --undefined-only --format=posix "$HALTERE_PLUGIN" |
    awk '$2 == "U" {print $1}' | names)
mapfile -t libraries < <(ldd "$HALTERE_PLUGIN" | awk '$2 == "=>" && $3 ~ /^\// {print $3}')
[ ${#libraries[@]} -gt 0 ] || { echo "ldd lists no library of $HALTERE_PLUGIN"; exit 1; }
provided=$(nm --dynamic --defined-only --format=posix "${libraries[@]}" 2>/dev/null |
    awk 'NF > 1 {print $1}' | names)

failed=0
open=$(comm -23 <(echo "$strong") <(echo "$provided") | grep -v '^mosquitto_' || true)
if [ -n "$open" ]; then
    echo "neither in the module's libraries nor the broker's:"
    echo "$open"
    failed=1
fi

# Exported by 2.0.11 but not by 2.0.21 (or only by 2.1): a strong reference stops the module there.
absent='mosquitto_(property_(read_|copy_all|next|check_)|strerror|topic_matches_sub2|plugin_set_info|client_port|client$|client_id_hashv|set_clientid|apply_on_all_clients|complete_basic_auth|client_will_set|persistence_location|sub_matches_acl|strndup|log_vprintf)'
if grep -E "^$absent" <<<"$strong"; then
    echo "the functions above are missing from a supported broker: declare them weak, test for NULL"
    failed=1
fi
exit $failed
