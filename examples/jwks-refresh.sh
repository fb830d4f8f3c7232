#!/usr/bin/env bash
# jwks-refresh.sh - fetch an issuer's key set and put it in place of the old one if the broker would
# take it. Haltere sees the new file by itself; whatever goes wrong, the old one stays.
#
#   usage: jwks-refresh.sh URL FILE
#
# By cron, every quarter of an hour (a failure is mailed to root):
#
#   */15 * * * *  root  jwks-refresh.sh https://id.example/jwks.json /etc/mosquitto/keys/id.jwks
#
# By systemd, jwks-refresh.service and jwks-refresh.timer (systemctl enable --now jwks-refresh.timer):
#
#   [Unit]                                              [Timer]
#   Wants=network-online.target                         OnBootSec=1min
#   After=network-online.target                         OnUnitActiveSec=15min
#   [Service]                                           RandomizedDelaySec=1min
#   Type=oneshot                                        [Install]
#   ExecStart=jwks-refresh.sh URL FILE                  WantedBy=timers.target
#
# Fetch more often than the issuer rotates: a new key must be here before tokens of it are.
set -euo pipefail

[ $# -eq 2 ] || { sed -n '2,/usage/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
url=$1 file=$2

# Beside the file, so that the rename is one step.
new=$(mktemp "$(dirname "$file")/.jwks-refresh.XXXXXX")
trap 'rm -f "$new"' EXIT

curl --fail --silent --show-error --location --proto '=https' --max-time 60 --retry 2 \
    --max-filesize 1048576 --output "$new" "$url"
haltere key check "$new" >/dev/null
if cmp -s "$new" "$file"; then
    exit 0
fi
chmod 0644 "$new"
mv "$new" "$file"
echo "$file: replaced"
