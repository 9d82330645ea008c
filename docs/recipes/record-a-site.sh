#!/bin/sh
# Records a site for an hour:
#
#     sh docs/recipes/record-a-site.sh 1h                        with TUYAGW_BROKER and TUYAGW_GATEWAY_ID set
#     tuyagw edge -- sh docs/recipes/record-a-site.sh            offline: for 2 s, with traffic of its own
#
# It listens as a platform user, because a second client with the gateway's id would push the gateway off. A message is
# acknowledged only once it is on the disk; the file is put aside when it is long enough, and nothing is lost between.
# Where the edge has no such user, `tuyagw tap` records instead, from between the gateway and the edge.
set -eu

duration=${1:-2s}
rotate=${2:-100MB}
fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }

traffic=
if [ $# = 0 ]; then
    # Nobody asked for a real site: a meter reports into the emulator, and small files show what --rotate does.
    rotate=4KB
    cd "$(mktemp -d)"
    tuyagw sync -q --cid meter-1 --product-id p1 >/dev/null
    (while sleep 0.1; do tuyagw report -q --cid meter-1 water_flow=12345 || exit; done) >/dev/null &
    traffic=$!
    trap 'kill "$traffic" 2>/dev/null || :' EXIT
fi

tuyagw listen --username "${TUYAGW_PLATFORM_USERNAME:-platform}" --client-id "recorder-$$" --all \
    --out site.jsonl --rotate "$rotate" --for "$duration" || fail "listen ended with $?"

# Parts that were put aside have the time in their names, so that they sort before the file that was last.
ls -l site*.jsonl
cat site-*.jsonl site.jsonl 2>/dev/null | tuyagw inspect - >summary.json
jq -c '{records, span_s, kinds: [.kinds[] | {kind, records}], round_trips}' summary.json
[ "$(jq .records summary.json)" -gt 0 ] || fail "nothing was recorded"
[ "$(jq '.left_out == null' summary.json)" = true ] || fail "the recording is not whole"
