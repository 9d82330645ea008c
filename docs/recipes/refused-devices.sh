#!/bin/sh
# Finds every device that was refused, with the code and how often:
#
#     sh docs/recipes/refused-devices.sh site.jsonl                      any recording, a capture too
#     sh docs/recipes/refused-devices.sh                                 one that is made here
set -eu

fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

recording=${1:-}
if [ -z "$recording" ]; then
    recording=$folder/site.jsonl
    tuyagw edge --out "$recording" -- sh -c '
        tuyagw sync -q --cid meter-1 --product-id p1
        tuyagw report -q --cid meter-1 water_flow=12345
        tuyagw report -q --cid meter-9 water_flow=12345 || true' >/dev/null 2>&1
fi

refused=$folder/refused
tuyagw inspect --json "$recording" |
    jq -r '.codes[] | select(.code != 0) | . as $answer | .devices[] |
        [.gateway_id, .cid, $answer.kind, $answer.code, $answer.name // "", .count] | @tsv' >"$refused"
sort "$refused"
if [ $# = 0 ]; then
    grep -q "meter-9.*2003" "$refused" || fail "meter-9 is missing"
    [ "$(wc -l <"$refused")" -eq 1 ] || fail "only meter-9 was refused"
fi
