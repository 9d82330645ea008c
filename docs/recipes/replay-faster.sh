#!/bin/sh
# Replays a recording at ten times its speed into the emulator:
#
#     tuyagw edge -- sh docs/recipes/replay-faster.sh                    the sample, tests/recordings/gateway.pcapng
#     tuyagw edge -- sh docs/recipes/replay-faster.sh site.jsonl 100     another recording, a hundred times as fast
set -eu

recording=${1:-$(dirname "$0")/../../tests/recordings/gateway.pcapng}
speed=${2:-10}
step() { printf '\n== %s\n' "$*"; }
fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }
# Answers to commands need somebody who sends the commands.
set -- --speed "$speed" --max-gap 5m --kind sync,report,status "$recording"

step "What would be sent, and how long it takes"
plan=$(tuyagw replay --dry-run "$@")
echo "$plan" | jq -c '{messages, duration_ms, gateways}'
[ "$(echo "$plan" | jq .messages)" -gt 0 ] || fail "the recording holds nothing to send"

step "Sent: all is acknowledged, or the exit code says why not"
tuyagw replay "$@" || fail "exit $?"
