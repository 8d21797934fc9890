#!/usr/bin/env bash
# Writes and pages with `buf curl`: gRPC by reflection, and gRPC-Web.
#
# usage: buf.sh http://HOST:PORT BUF
set -euo pipefail

url=$1
buf=$2
namespace=buf_client
events=$url/anabranch.timeseries.v1.TimeSeriesService
admin=$url/anabranch.admin.v1.AdminService
checks=0

call() { # PROTOCOL URL JSON
  local protocol=$1
  local more=(--http2-prior-knowledge)
  if [ "$protocol" = grpcweb ]; then more=(); fi
  "$buf" curl --protocol "$protocol" "${more[@]}" --reflect --reflect-protocol grpc-v1 --data "$3" "$2"
}

check() { # WHAT JSON FILTER
  if ! jq -e "$3" >/dev/null <<<"$2"; then
    printf 'buf.sh: FAILED: %s: %s does not hold in %.600s\n' "$1" "$3" "$2" >&2
    exit 1
  fi
  checks=$((checks + 1))
  echo "  ok  $1"
}

call grpc "$admin/CreateNamespace" "{\"namespace\": {\"name\": \"$namespace\", \"acceptLimit\": \"0s\"}}" >/dev/null
for protocol in grpc grpcweb; do
  write=$(jq -cn "{namespace: \"$namespace\", events: [range(12) | {timeSeriesId: \"$protocol\",
    eventTime: (1767225600 + . | todate), eventId: \"e\(.)\", eventItems: [{eventItemKey: \"k\", eventItemValue: (tostring | @base64)}]}]}")
  check "$protocol writes" "$(call $protocol "$events/WriteEventRecordsSync" "$write")" '.written == 12'
  token='' seen='[]' pages=0
  while :; do
    page=$(call $protocol "$events/ReadEventRecords" \
      "{\"namespace\": \"$namespace\", \"timeSeriesId\": \"$protocol\", \"pageSize\": 5, \"pageToken\": \"$token\"}")
    seen=$(jq -c --argjson page "$page" '. + [$page.records[]?.eventId]' <<<"$seen")
    token=$(jq -r '.nextPageToken // ""' <<<"$page")
    pages=$((pages + 1))
    test -n "$token" || break
  done
  check "$protocol pages: 12 events in $pages pages, newest first" "$seen" '. == [range(11; -1; -1) | "e\(.)"]'
  if error=$(call $protocol "$events/ReadEventRecords" '{"namespace": "no_such", "timeSeriesId": "a"}' 2>&1); then
    echo "buf.sh: FAILED: an unknown namespace was read" >&2
    exit 1
  fi
  grep -q NAMESPACE_NOT_FOUND <<<"$error" && grep -q not_found <<<"$error"
  checks=$((checks + 1))
  echo "  ok  $protocol gets rich errors"
done
call grpc "$admin/DeleteNamespace" "{\"name\": \"$namespace\"}" >/dev/null
echo "buf.sh: $checks checks passed"
