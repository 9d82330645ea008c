#!/bin/sh
# A first look at tuyagw, offline:
#
#     tuyagw edge -- sh docs/recipes/first-run.sh
#
# `tuyagw edge` starts an emulated Edge Gateway on a free port, says where it is in TUYAGW_* variables, runs this script,
# and ends with its exit code. The script plays a gateway with three water meters, and checks all that comes back; it is 0
# only if everything was as it says. Against a real edge, set the same variables and leave `tuyagw edge --` away.
set -eu

folder=$(mktemp -d)
listen=
trap '[ -z "$listen" ] || kill "$listen" 2>/dev/null; rm -rf "$folder"' EXIT
cd "$folder"

step() { printf '\n== %s\n' "$*"; }
fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }

# expect CODE COMMAND...: runs a command, whose exit code must be CODE.
expect() {
    wanted=$1
    shift
    got=0
    "$@" || got=$?
    [ "$got" = "$wanted" ] || fail "exit $got in place of $wanted: $*"
}

# count TEXT FILE: how many lines hold a text; jq is nicer, grep is everywhere.
count() { grep -c -F -- "$1" "$2" || true; }

# equal TEXT EXPECTED WHAT
equal() { [ "$1" = "$2" ] || fail "$3: $1 in place of $2"; }

step "The password is the MD5 of client id and username"
password=$(tuyagw password --raw)
echo "$TUYAGW_GATEWAY_ID and $TUYAGW_USERNAME give $password"
equal "${#password}" 32 "length of the password"

step "A device that nobody has synchronised is refused: exit 1, code 2003"
expect 1 tuyagw report --cid meter-1 water_flow=12.345m3 >refused.jsonl
cat refused.jsonl
equal "$(count '"code":2003' refused.jsonl)" 1 "refusals with 2003"

step "Three meters, synchronised from JSON Lines"
cat >devices.jsonl <<'END'
{"cid":"meter-1","product_id":"zk4watermeter01","device_name":"Kitchen, cold","install_location":"House 7, flat 3"}
{"cid":"meter-2","product_id":"zk4watermeter01","device_name":"Bath, cold","comm_type":"mqtt"}
{"cid":"meter-3","product_id":"zk4watermeter01","device_name":"Bath, hot","vendor_code":"ACME"}
END
expect 0 tuyagw sync devices.jsonl >synced.jsonl
cat synced.jsonl
equal "$(count '"ok":true' synced.jsonl)" 3 "devices synchronised"

step "What was refused is sent again by its result line"
expect 0 tuyagw report refused.jsonl

step "All 18 data points of a meter, in one line of input; scaled by 1,000 where they are in cubic metres"
cat >readings.jsonl <<'END'
{"cid":"meter-1","properties":{"water_flow":12345,"monthly_water_total":4200,"daily_water_total":187,"switch_state":true,"d_begin_water_total":12158,"d_end_water_total":12345,"d_begin_time":"1795305600","d_end_time":"1795392000","valve_state":"opened","m_begin_water_total":8145,"m_end_water_total":12345,"m_begin_time":"1793491200","m_end_time":"1796083200","cold_stall_userdata":12345,"cold_stall_type":"consumption","hot_stall_userdata":0,"hot_stall_type":"ignore","valve_open_degree":100}}
END
expect 0 tuyagw report readings.jsonl >reported.jsonl
echo "$(count '"ok":true' reported.jsonl) data points accepted; the first: $(head -n 1 reported.jsonl)"
equal "$(count '"ok":true' reported.jsonl)" 18 "data points accepted"

step "A value out of its range is never sent: exit 2"
expect 2 tuyagw report --cid meter-1 water_flow=-1

step "Two meters are online, one is not"
expect 0 tuyagw status --online meter-1,meter-2 --offline meter-3

step "A gateway listens, and answers one command"
tuyagw listen --kind command --count 1 --answer success >commands.jsonl 2>listen.log &
listen=$!
# Who sends before it listens is not heard. The file may come into being only after the first look.
until grep -qs listening listen.log; do
    kill -0 "$listen" 2>/dev/null || fail "listen ended early: $(cat listen.log)"
done
cat listen.log

step "A command to a meter that is offline is refused: exit 1, code 2001"
expect 1 tuyagw command -q --cid meter-3 valve_state=closed >offline.jsonl
equal "$(count '"code":2001' offline.jsonl)" 1 "refusals with 2001"

step "The platform closes the valve of a meter that is online"
expect 0 tuyagw command --cid meter-1 valve_state=closed
expect 0 wait "$listen"
listen=
echo "the gateway heard: $(cat commands.jsonl)"
equal "$(count '"value":"closed"' commands.jsonl)" 1 "commands heard"

step "Results are JSON Lines, made for pipes"
if command -v jq >/dev/null; then
    jq -r 'select(.ok) | "data point \(.id): \(.msg)"' reported.jsonl | head -n 3
else
    grep -o '"id":"[0-9]*"' reported.jsonl | head -n 3
fi

step "What a code means"
tuyagw explain 2003

step "Everything was as expected"
