#!/usr/bin/env bash
# Writes, pages, searches and aggregates with curl and jq on the JSON surface.
#
# usage: curl.sh http://HOST:PORT
set -euo pipefail

url=$1
namespace=curl_client
events=anabranch.timeseries.v1.TimeSeriesService
admin=anabranch.admin.v1.AdminService
checks=0

post() { # METHOD JSON: the body of a good answer
  curl -sS --fail-with-body -X POST -H 'content-type: application/json' --data-binary @- "$url/api/$1" <<<"$2"
}

ask() { # METHOD JSON: status and body of any answer
  curl -sS -o "$answer" -w '%{http_code}' -X POST -H 'content-type: application/json' --data-binary @- \
    "$url/api/$1" <<<"$2"
}

check() { # WHAT JSON FILTER
  if ! jq -e "$3" >/dev/null <<<"$2"; then
    printf 'curl.sh: FAILED: %s: %s does not hold in %.600s\n' "$1" "$3" "$2" >&2
    exit 1
  fi
  checks=$((checks + 1))
  echo "  ok  $1"
}

answer=$(mktemp)
trap 'rm -f "$answer"' EXIT

test "$(curl -sS -o /dev/null -w '%{http_code}' "$url/healthz")" = 200
echo "  ok  /healthz answers 200"
metrics=$(curl -sS "$url/metrics")
grep -q '^anabranch_' <<<"$metrics"
grep -q '^# EOF' <<<"$metrics"
echo "  ok  /metrics are OpenMetrics"
checks=$((checks + 2))

created=$(post $admin/CreateNamespace "{\"namespace\": {\"name\": \"$namespace\", \"acceptLimit\": \"0s\",
  \"fieldMapping\": {\"n\": \"INTEGER\"}}}")
check 'a namespace is created with its defaults' "$created" \
  ".name == \"$namespace\" and .secondsPerTimeSlice == \"604800\" and .acceptLimit == \"0s\" and .fieldMapping.n == \"INTEGER\""

write=$(jq -cn "{namespace: \"$namespace\", events: [range(25) | {timeSeriesId: \"profile:1\",
  eventTime: (1767225600 + . * 60 | todate), eventId: \"e\(.)\",
  eventItems: [{eventItemKey: \"n\", eventItemValue: (tostring | @base64)},
    {eventItemKey: \"odd\", eventItemValue: ((. % 2 == 1) | tostring | @base64)}]}]}")
check '25 events are written' "$(post $events/WriteEventRecordsSync "$write")" '.written == 25'
check 'writing them again changes nothing' "$(post $events/WriteEventRecordsSync "$write")" '.written == 25'

seen='[]'
token=''
pages=0
while :; do
  page=$(post $events/ReadEventRecords "{\"namespace\": \"$namespace\", \"timeSeriesId\": \"profile:1\", \"pageSize\": 10,
    \"pageToken\": \"$token\"}")
  check "page $pages has its context" "$page" ".responseContext[0].namespace == \"$namespace\" and
    (.responseContext[0].timeTaken | test(\"^[0-9.]+s$\"))"
  seen=$(jq -c --argjson page "$page" '. + [$page.records[]?]' <<<"$seen")
  token=$(jq -r '.nextPageToken // ""' <<<"$page")
  pages=$((pages + 1))
  test -n "$token" || break
done
check "25 events in $pages pages, newest first" "$seen" '[.[].eventId] == [range(24; -1; -1) | "e\(.)"]'
check 'every value is the one written' "$seen" \
  'all(.[]; .eventItems[0].eventItemValue == (.eventId[1:] | @base64) and .timeSeriesId == "profile:1")'
check 'oldest first is the reverse' \
  "$(post $events/ReadEventRecords "{\"namespace\": \"$namespace\", \"timeSeriesId\": \"profile:1\", \"direction\": \"ASCENDING\"}")" \
  '[.records[].eventId] == [range(25) | "e\(.)"] and (.nextPageToken // "") == ""'

range=$(post $events/SearchEventRecords "$(jq -cn "{namespace: \"$namespace\", searchQuery: {booleanQuery: {operator: \"AND\", searchQuery: [
  {range: {eventItemKey: \"n\", lowerBound: {eventItemValue: (\"9\" | @base64), inclusive: true}, upperBound: {eventItemValue: (\"15\" | @base64)}}},
  {booleanQuery: {operator: \"NOT\", searchQuery: [{equals: {eventItemKey: \"odd\", eventItemValue: (\"true\" | @base64)}}]}}]}}}")")
check 'a search compares numbers' "$range" '[.records[].eventId] | sort == ["e10", "e12", "e14"]'
sum=$(post $events/AggregateEventRecords "$(jq -cn "{namespace: \"$namespace\", aggregationQuery: {sum: {eventItemKey: \"n\"},
  groupBy: {eventItemKey: \"odd\"}}}")")
check 'an aggregate adds up by item' "$sum" \
  '[.rows[] | [(.group.eventItemValue | @base64d), .count, .integerValue]] == [["false", "13", "156"], ["true", "12", "144"]]'

test "$(ask $events/ReadEventRecords "{\"namespace\": \"no_such\", \"timeSeriesId\": \"a\"}")" = 404
check 'an unknown namespace is 404 with one ErrorInfo' "$(cat "$answer")" \
  '.code == 5 and ([.details[] | select(.reason)] | length == 1) and (.details[] | select(.reason) | .reason == "NAMESPACE_NOT_FOUND" and .domain == "anabranch.dev")'
test "$(ask $events/ReadEventRecords "{\"namespce\": \"x\"}")" = 400
check 'a misspelt field is named' "$(cat "$answer")" '[.details[].reason?] | index("UNKNOWN_FIELD") != null'
test "$(ask $admin/DeleteNamespace "{\"name\": \"$namespace\"}")" = 200
test "$(ask $admin/GetNamespace "{\"name\": \"$namespace\"}")" = 404
checks=$((checks + 2))
echo "  ok  a deleted namespace is gone"
echo "curl.sh: $checks checks passed"
