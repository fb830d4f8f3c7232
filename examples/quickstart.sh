#!/usr/bin/env bash
# quickstart.sh - from a fresh checkout to a fleet under watch: installs, builds, and tells a true story.
#
# Everything in it is real: a mosquitto with the plugin on a port of 127.0.0.1, devices that log in
# over the network with signed tokens, and a plain mosquitto_sub that hears the alerts. What must
# come is in the table `expected` below; what comes besides makes the script fail.
set -euo pipefail
export LC_ALL=C PATH=$PATH:/usr/sbin:/sbin

readonly fleet_size=24
readonly watch_s=40    # the fleet is watched for at least so long: false alarms need time to show
readonly deadline_s=52 # the expected alerts must have come by then
readonly start_s=10    # the longest that starting or stopping one thing may take

# device|alertname|status|what happens
readonly expected=(
    "gate|auth_failure|firing|a stranger shows a forged token in its name, three times"
    "oven|temperature_high|firing|it overheats"
    "oven|temperature_high|resolved|it is repaired and comes back cool"
    "meter|auth_failure|firing|its token expires; it is thrown out and comes back with the old one"
    "meter|silence|firing|so nothing more is heard of it"
    "hall|anomaly|firing|its humidity jumps; no limit is set, only its own past speaks against it"
    "liar|spoof|firing|it sends another device's id"
    "prowler|acl_denied|firing|it publishes on another device's topic"
    "cellar|silence|firing|it stays connected and falls silent"
)
# This machine's own readings are what they are: its anomalies are shown, not counted.
readonly shown_only="this-machine|anomaly"

usage()
{
    cat <<'END'
usage: examples/quickstart.sh [--keep] [--seed N] [--help]

Installs what is missing (Debian packages, needs root or sudo for that alone), builds into build/,
and shows a fleet of simulated devices live for about 45 seconds: who is let in, who is not and
why, and the alerts of eight troublemakers. Exit code 0 only if exactly the expected alerts came.
All of it happens in a temporary directory and on a free port of 127.0.0.1.

  --keep    leave broker and devices running, and print commands to try
  --seed N  the simulated signals of an earlier run (it prints its seed)

  HALTERE_BUILD_DIR=DIR  install and build nothing, take what is in DIR
  MOSQUITTO=PROGRAM      the broker to use (default: mosquitto)
  NO_COLOR=1             no colours on a terminal
END
}

keep=no
seed=$((RANDOM * 32768 + RANDOM))
while [ $# -gt 0 ]; do
    case $1 in
    --keep) keep=yes ;;
    --seed) seed=${2:-} && shift ;;
    --help | -h) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
    esac
    shift || true
done
[[ $seed =~ ^[0-9]{1,18}$ ]] || { usage >&2 && exit 2; }

# --- saying --------------------------------------------------------------------------------------

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' yellow=$'\e[33m' plain=$'\e[0m'
else
    bold='' dim='' red='' green='' yellow='' plain=''
fi

title() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }

tell() # tell COLOUR WORD WHO TEXT: one line of the story
{
    local ms
    clock
    ms=$((now_ms - started_ms))
    printf '%s%3d.%d s%s  %s%-10s%s %-13s %s\n' "$dim" $((ms / 1000)) $((ms % 1000 / 100)) "$plain" \
        "$1" "$2" "$plain" "$3" "$4"
}

die()
{
    printf '%squickstart: %s%s\n' "$red" "$*" "$plain" >&2
    exit 1
}

clock() { now_ms=$((${EPOCHREALTIME/./} / 1000)); }

# --- install and build ---------------------------------------------------------------------------

build_log=''

quietly() # quietly WHAT COMMAND...: its output is shown only when it fails
{
    local what=$1
    shift
    build_log=$(mktemp)
    if ! "$@" >"$build_log" 2>&1; then
        tail -n 30 "$build_log" >&2
        die "$what failed; its last lines are above"
    fi
    rm -f "$build_log"
}

install_and_build()
{
    local root=$1 begin=$SECONDS
    title "Installing what is missing, and building (a minute or two, the first time)"
    "$root/.ci/deps.sh"
    if [ ! -f "$root/build/CMakeCache.txt" ]; then
        quietly "cmake" env -C "$root" cmake --preset release -DHALTERE_TESTS=OFF
    fi
    quietly "the build" cmake --build "$root/build" --parallel "$(nproc)" \
        --target mosquitto_haltere haltere
    echo "build/mosquitto_haltere.so and build/haltere are ready ($((SECONDS - begin)) s)"
}

# --- processes -----------------------------------------------------------------------------------

declare -A pid_of=()
dir='' broker='' outcome=failed quiet=no pending='' LINE='' todo='' now_ms=0 started_ms=0

# By its directory: a process id may be somebody else's by now.
running() { [ -n "${pid_of[$1]:-}" ] && [ "/proc/${pid_of[$1]}/cwd" -ef "$dir" ]; }
gone() { ! running "$1"; }

started() # started NAME: remembers the last background process under this name
{
    pid_of[$1]=$!
    echo $! >>"$dir/pids"
}

stop() # stop NAME: ends it and waits; its exit code
{
    local pid=${pid_of[$1]:-}
    [ -n "$pid" ] || return 0
    if running "$1"; then kill "$pid" 2>/dev/null || true; fi
    wait_for "$start_s" gone "$1" || kill -KILL "$pid" 2>/dev/null || true
    unset "pid_of[$1]"
    wait "$pid" 2>/dev/null
}

cleanup()
{
    local name
    trap '' HUP INT PIPE TERM
    rm -f "$build_log"
    [ -n "$dir" ] || return 0
    quiet=yes
    if [ "$outcome" = kept ]; then return 0; fi
    for name in ${pid_of[@]+"${!pid_of[@]}"}; do
        [ "$name" = broker ] || stop "$name" || true
    done
    stop broker || true
    cd /
    if [ "$outcome" = failed ]; then
        rm -f "$dir"/*.jwk "$dir"/*.jwt "$dir/story"
        printf 'quickstart: the logs are kept in %s (begin with broker.log)\n' "$dir" >&2
    else
        rm -rf "$dir"
    fi
}

trap cleanup EXIT
trap 'outcome=stopped; exit 129' HUP
trap 'outcome=stopped; exit 130' INT
trap 'outcome=stopped; exit 141' PIPE # whoever read the story has had enough
trap 'outcome=stopped; exit 143' TERM

# --- the story: lines of the broker's log, of the events and of the alerts come in on one pipe ----

next_line() # next_line SECONDS: the next whole line in LINE; false if there is none yet
{
    local part=''
    if IFS= read -r -t "$1" -u 3 part; then
        LINE=$pending$part pending=''
        return 0
    fi
    pending+=$part
    return 1
}

wait_for() # wait_for SECONDS CONDITION...: tells the story until it holds; false at the deadline
{
    local until_ms
    clock
    until_ms=$((now_ms + $1 * 1000))
    shift
    until "$@"; do
        clock
        [ "$now_ms" -lt "$until_ms" ] || return 1
        if next_line 0.1; then hear "$LINE"; fi
        if [ "$quiet" = no ] && [ -n "${pid_of[broker]:-}" ] && gone broker; then
            return 1
        fi
    done
}

declare -A seen=() refused=()
let_in=0 last_seq=0 alert_messages=0 ready=no
subscribed='' unexpected=()

hear() # hear LINE
{
    case $1 in
    "alert alerts/active/"*) ;; # the retained set: says the same
    "alert "*) hear_alert "$1" ;;
    "event "*) hear_event "$1" ;;
    *"auth-fail "*) hear_refusal "$1" ;;
    *"acl-deny "*) hear_denial "$1" ;;
    *"mosquitto version "*" running"*) ready=yes ;;
    *" alerts/#" | *" devices/+/event") subscribed+=" ${1##* }" ;;
    esac
}

field() # field JSON NAME: the first string member of that name, in REPLY
{
    local pattern="\"$2\":\"(([^\"\\]|\\\\.)*)\""
    REPLY=''
    if [[ $1 =~ $pattern ]]; then REPLY=${BASH_REMATCH[1]//\\\"/\"}; fi
}

hear_alert()
{
    local device name status severity message key colour=$yellow row known=no
    field "$1" deviceId && device=$REPLY
    field "$1" alertname && name=$REPLY
    field "$1" status && status=$REPLY
    field "$1" severity && severity=$REPLY
    field "$1" message && message=$REPLY
    alert_messages=$((alert_messages + 1))
    if [[ $1 =~ \"seq\":([0-9]+) ]]; then
        if [ "$last_seq" != 0 ] && [ "${BASH_REMATCH[1]}" != $((last_seq + 1)) ]; then
            unexpected+=("an alert message is missing before seq ${BASH_REMATCH[1]}")
        fi
        last_seq=${BASH_REMATCH[1]}
    fi
    key="$device|$name|$status"
    for row in "${expected[@]}"; do
        # Everything may be resolved sooner or later; what begins must stand in the table.
        [[ $row != "$device|$name|firing|"* ]] || known=yes
    done
    [ "$device|$name" != "$shown_only" ] || known=yes
    if [ "$known" = no ]; then unexpected+=("$device $name $status: $message"); fi
    seen[$key]=yes
    [ "$severity" != critical ] || colour=$red
    if [ "$status" = resolved ]; then
        colour=$green
        message="$name is over"
    else
        message="$name: $message"
    fi
    [ "$quiet" = yes ] || tell "$colour" "$status" "$device" "$severity, $message"
    if [ "$key" = "oven|temperature_high|firing" ]; then todo=repair_oven; fi
}

hear_event()
{
    local device type reason
    field "$1" deviceId && device=$REPLY
    field "$1" type && type=$REPLY
    field "$1" reason && reason=$REPLY
    [ "$quiet" = no ] || return 0
    case $type/$device in
    connected/sensor-*)
        let_in=$((let_in + 1))
        if [ "$let_in" = "$fleet_size" ]; then
            tell "$green" "let in" "sensor-*" "all $fleet_size of them"
        fi
        ;;
    connected/*)
        tell "$green" "let in" "$device" ""
        # The forger must name a device that is known: then it is that device's alert.
        [ "$device" != gate ] || [ -n "${pid_of[forger]:-}" ] || todo=send_forger
        ;;
    disconnected/*) tell "" "left" "$device" "${reason/#unknown/}" ;; # 2.0 does not know why
    token_expiring/*) tell "$yellow" "notice" "$device" "its token expires in a moment" ;;
    token_expired/*) tell "$yellow" "thrown out" "$device" "its token has expired" ;;
    esac
}

hear_refusal()
{
    local pattern='client=([^ ]+) user=[^ ]+ reason=([a-z_]+) \(([^;.]*)'
    [[ $1 =~ $pattern ]] || return 0
    refused[${BASH_REMATCH[2]}]=$((${refused[${BASH_REMATCH[2]}]:-0} + 1))
    tell "$red" "refused" "${BASH_REMATCH[1]}" "login, reason=${BASH_REMATCH[2]}: ${BASH_REMATCH[3]}"
}

hear_denial()
{
    local pattern='client=([^ ]+) access=([a-z]+) topic=([^ ]+) reason=([a-z_]+)'
    [[ $1 =~ $pattern ]] || return 0
    tell "$red" "denied" "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]} ${BASH_REMATCH[3]}, reason=${BASH_REMATCH[4]}"
}

# --- keys, tokens, policy, broker ----------------------------------------------------------------

issue() # issue ID OPTION...: a token for it in ID.jwt
{
    local id=$1
    shift
    "$haltere" token issue --key issuer.jwk --iss quickstart --aud mqtt --sub "$id" "$@" >"$id.jwt"
}

write_files()
{
    "$haltere" key new --kid demo --out issuer.jwk --public keys.jwks >keys.log
    # The forger's own key, under the name of ours.
    "$haltere" key new --kid demo --out forged.jwk >>keys.log
    issue watch --role operator --device-class service
    issue desk --role operator --device-class service
    issue you --role operator --role haltere-admin --device-class service --exp 7d
    issue kettle --device-class sensor --exp 7d
    cat >policy.acl <<'END'
haltere 1
anyone
  allow write devices/%d/telemetry
  allow write devices/%d/status
  allow read  devices/%d/commands
role operator
  allow read  devices/#
  allow read  alerts/#
  allow read  system/#
  allow write devices/+/commands
expect allow write devices/oven/telemetry as sub=oven
expect deny  write devices/oven/telemetry as sub=prowler
expect allow write devices/oven/commands  as sub=you roles=operator
END
    # The built-in rules, only quicker. Class `host` is this machine: it may be hotter than a
    # cellar. Class `service` listens and has nothing to say.
    cat >rules.json <<'END'
{"version": 1,
 "rules": [
   {"name": "temperature_high", "clearAfter": "2s", "exceptClasses": ["host"]},
   {"name": "silence", "after": "8s", "exceptClasses": ["service"]},
   {"name": "auth_failure", "count": 3},
   {"name": "acl_denied", "count": 3}
 ]}
END
}

write_conf()
{
    cat >mosquitto.conf <<END
listener $port 127.0.0.1
user $(id -un)
allow_anonymous false
check_retain_source true
set_tcp_nodelay true
connection_messages false
log_dest stderr
log_type error
log_type warning
log_type notice
log_type information
log_type subscribe
plugin $build/mosquitto_haltere.so
plugin_opt_keys_file keys.jwks
plugin_opt_issuer quickstart
plugin_opt_audience mqtt
plugin_opt_leeway 0s
plugin_opt_acl_file policy.acl
plugin_opt_rules_file rules.json
plugin_opt_db_path db
plugin_opt_flush_interval 1s
plugin_opt_expiry_notice 3s
END
}

taken() { (exec 4<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

broker_up_or_down() { [ "$ready" = yes ] || gone broker; }

start_broker()
{
    local try
    : >broker.log
    # tail reads on across a second try: the file is only ever appended to.
    tail -n +1 -f --pid=$$ broker.log > >(exec sed -u 's/^/log /' >story) 2>/dev/null 3>&- &
    started log
    for try in 1 2 3 4 5 6 7 8; do
        # Below the ports that the system itself hands out.
        port=$((20000 + RANDOM % 12000))
        ! taken "$port" || continue
        write_conf
        if [ "$try" = 1 ]; then "$haltere" config check mosquitto.conf; fi
        "$broker" -c mosquitto.conf </dev/null >>broker.log 2>&1 3>&- &
        started broker
        if wait_for "$start_s" broker_up_or_down && [ "$ready" = yes ] && running broker; then
            return 0
        fi
        grep -q 'Address already in use' broker.log || break
    done
    tail -n 15 broker.log >&2
    die "the broker did not start; the end of its log is above"
}

listen() # listen ID KIND TOPIC: a plain mosquitto_sub, what it gets comes in on the pipe
{
    mosquitto_sub -h 127.0.0.1 -p "$port" -i "$1" -u jwt -P "$(cat "$1.jwt")" -q 1 -t "$3" \
        -F "$2 %t %p" </dev/null >story 2>"$1.log" 3>&- &
    started "$1"
    wait_for "$start_s" has_subscribed "$3" || die "$1 could not subscribe to $3"
}

has_subscribed() { [[ $subscribed == *" $1"* ]]; }

# --- the fleet -----------------------------------------------------------------------------------

device() # device NAME OPTION...: one process of `haltere simulate`
{
    local name=$1
    shift
    "$haltere" simulate --host 127.0.0.1 --port "$port" --seed "$seed" "$@" \
        </dev/null >"$name.log" 2>&1 3>&- &
    started "$name"
}

readonly signed=(--key issuer.jwk --issuer quickstart --audience mqtt --lifetime 7d)
readonly sensor=("${signed[@]}" --class sensor --interval 200ms)

start_fleet()
{
    device fleet --prefix sensor --devices "$fleet_size" --status "${sensor[@]}"
    device host --id this-machine --profile host "${signed[@]}" --class host --interval 500ms
    device gate --id gate "${sensor[@]}"
    issue meter --device-class sensor --exp 8s
    # Slow, so that what it still says before it is thrown out is no case of acl_denied.
    device meter --id meter --token-file meter.jwt --interval 1s --retry 3
    device cellar --id cellar --profile silent --at 9s "${sensor[@]}"
    device oven --id oven --profile overheat --at 10s "${sensor[@]}"
    device hall --id hall --profile jump --at 13s "${sensor[@]}"
    device liar --id liar --profile spoof --other sensor-001 --at 15s "${sensor[@]}"
    device prowler --id prowler --profile denied --other sensor-002 --at 18s "${sensor[@]}"
}

send_forger()
{
    device forger --id gate "${signed[@]/#issuer.jwk/forged.jwk}" --retry 3
}

repair_oven()
{
    stop oven || true
    device oven --id oven "${sensor[@]}"
}

all_seen()
{
    local row
    for row in "${expected[@]}"; do
        [ -n "${seen[${row%|*}]:-}" ] || return 1
    done
}

story_over()
{
    if [ -n "$todo" ]; then
        local now=$todo
        todo=''
        "$now"
    fi
    clock
    [ $((now_ms - started_ms)) -ge $((watch_s * 1000)) ] && all_seen
}

# --- the end -------------------------------------------------------------------------------------

summary() # true if all is as it must be
{
    local row what ok=yes problem
    title "What was to be seen, and was"
    for row in "${expected[@]}"; do
        IFS='|' read -r device name status what <<<"$row"
        if [ -n "${seen[${row%|*}]:-}" ]; then
            printf '  %sok%s       %-9s %-17s %-9s %s\n' "$green" "$plain" "$device" "$name" "$status" "$what"
        else
            printf '  %smissing%s  %-9s %-17s %-9s %s\n' "$red" "$plain" "$device" "$name" "$status" "$what"
            ok=no
        fi
    done
    for problem in ${unexpected[@]+"${unexpected[@]}"}; do
        printf '  %sunexpected%s  %s\n' "$red" "$plain" "$problem"
        ok=no
    done
    if [ "$let_in" != "$fleet_size" ]; then
        printf '  %smissing%s  only %d of %d sensors were let in\n' "$red" "$plain" "$let_in" "$fleet_size"
        ok=no
    fi
    printf '\n%d alert messages; %d of %d sensors without any alert; seed %s\n' \
        "$alert_messages" "$(well_behaved)" "$fleet_size" "$seed"
    [ "$ok" = yes ]
}

well_behaved() # how many of the fleet raised nothing
{
    local n=$fleet_size i
    for ((i = 1; i <= fleet_size; i++)); do
        case " ${!seen[*]}" in *" $(printf 'sensor-%03d' "$i")|"*) n=$((n - 1)) ;; esac
    done
    echo "$n"
}

stop_everything() # every device and the broker must end well
{
    local name ok=yes
    quiet=yes
    stop fleet || { ok=no && echo "the fleet's exit code was not 0: see fleet.log" >&2; }
    echo "the fleet: $(tail -n 1 fleet.log)"
    for name in "${!pid_of[@]}"; do
        case $name in broker | log) ;; *) stop "$name" || true ;; esac
    done
    stop broker || { ok=no && echo "the broker's exit code was not 0: see broker.log" >&2; }
    [ "$ok" = yes ]
}

keep_running()
{
    local name
    for name in watch desk log; do stop "$name" || true; done
    # By its directory again, and because a zombie that nobody collects still has an id but no directory.
    cat >stop <<END
#!/bin/sh
# Stops what quickstart.sh --keep left running, and removes this directory.
runs() { [ "\$(readlink "/proc/\$1/cwd")" = "$dir" ]; }
for pid in \$(tac "$dir/pids"); do # the broker is among the first that were started
    if runs "\$pid"; then kill "\$pid"; fi
    left=${start_s}0
    while runs "\$pid" && [ \$left -gt 0 ]; do
        sleep 0.1
        left=\$((left - 1))
    done
done
cd / && rm -rf "$dir"
END
    chmod 700 stop
    title "It goes on running. Try:"
    cat <<END
  cd $dir; export PATH=$build:\$PATH
  mosquitto_sub -p $port -i you -u jwt -P "\$(cat you.jwt)" -t 'alerts/#' -v                 # hear the alerts
  mosquitto_pub -p $port -i kettle -u jwt -P "\$(cat kettle.jwt)" \\
      -t devices/kettle/telemetry -m '{"sensors":{"temperature":95}}'                       # raise one
  mosquitto_pub -p $port -i kettle -u jwt -P "\$(cat kettle.jwt)" -q 1 \\
      -t devices/oven/telemetry -m 20; sleep 1; grep acl-deny broker.log | tail -n 1         # be denied
  haltere device list --db db; haltere device show --db db oven; haltere alert list --db db
  \${EDITOR:-vi} policy.acl                                                                  # in force at once
  ./stop                                                                                    # end it, remove $dir
END
}

main()
{
    local root
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
    build=$(cd "${HALTERE_BUILD_DIR:-$root}" && pwd -P)
    if [ -z "${HALTERE_BUILD_DIR:-}" ]; then
        build=$root/build
        install_and_build "$root"
    fi
    haltere=$build/haltere
    broker=$(command -v "${MOSQUITTO:-mosquitto}") || die "no mosquitto; run .ci/deps.sh"
    [ -x "$haltere" ] || die "$haltere is not there"

    umask 077
    dir=$(mktemp -d "${TMPDIR:-/tmp}/haltere-quickstart.XXXXXX")
    dir=$(cd "$dir" && pwd -P)
    cd "$dir"
    mkfifo story
    exec 3<>story # open both ways: never at its end, whoever comes and goes
    clock
    started_ms=$now_ms
    title "A broker with Haltere, in $dir"
    write_files
    start_broker
    printf 'mosquitto listens on 127.0.0.1:%s, process %s\n' "$port" "${pid_of[broker]}"

    title "The story, for $watch_s seconds"
    clock
    started_ms=$now_ms
    listen desk event 'devices/+/event'
    listen watch alert 'alerts/#'
    start_fleet
    wait_for "$deadline_s" story_over || running broker || die "the broker died"

    title "The fleet, as the store knows it (haltere device list)"
    "$haltere" device list --db db
    if ! summary; then die "not everything is as it must be"; fi
    if [ "$keep" = yes ]; then
        quiet=yes
        keep_running
        outcome=kept
        return 0
    fi
    stop_everything || die "not everything ended well"
    outcome=good
    printf '%sAll as it must be.%s Again with the broker left running: examples/quickstart.sh --keep\n' "$green" "$plain"
}

main
