#!/bin/sh
# Turns a tcpdump into a regression test of the edge:
#
#     tuyagw edge -- sh docs/recipes/capture-to-test.sh                  the sample, tests/recordings/gateway.pcapng
#     tuyagw edge -- sh docs/recipes/capture-to-test.sh site.pcap
#
# The capture is made on the site with: tcpdump -i any -w site.pcap port 21883
set -eu

capture=$(realpath "${1:-$(dirname "$0")/../../tests/recordings/gateway.pcapng}")
step() { printf '\n== %s\n' "$*"; }
fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }
cd "$(mktemp -d)"

step "The capture as a recording, to be kept under version control"
tuyagw convert "$capture" >site.jsonl
tuyagw inspect site.jsonl | jq -c '.kinds[] | [.kind, .dir, .records]'

step "The test: each sync and report is answered as it was on the site"
tuyagw replay --verify --speed max --kind sync,report,status site.jsonl || fail "the edge answers otherwise: exit $?"

step "It can fail: an edge that knows none of the devices is another one"
code=0
tuyagw edge -- tuyagw replay --verify --speed max --kind report site.jsonl >differences.jsonl || code=$?
jq -c '[.line, .kind, .cid, .difference, .expected, .code]' differences.jsonl
[ "$code" = 1 ] || fail "exit $code in place of 1"
