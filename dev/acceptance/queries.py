"""Searches and aggregates of every operator, compared with what SQLite computes from the same file.

usage: queries.py http://HOST:PORT BINARY [FILE]

FILE is NDJSON of EventRecord, plain or .gz, with the items author, path, added and deleted. Without it a history of
20,000 events is made. Every search is walked in pages of 100 through the JSON API; every record is compared whole.
"""

import base64
import datetime
import gzip
import json
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request

EVENTS = "anabranch.timeseries.v1.TimeSeriesService"
ADMIN = "anabranch.admin.v1.AdminService"
NAMESPACE = "queries"
KEYS = ("author", "path", "added", "deleted")
NUMBERS = ("added", "deleted")
PAGE = 100
SLO = "30s"

url = ""
lines = []
failed = 0


class Refused(Exception):
    """The server's answer was an error."""


def post(method, body):
    request = urllib.request.Request(
        f"{url}/api/{method}", json.dumps(body).encode(), {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise Refused(f"{error.code} {error.read().decode()[:400]}") from None


def b64(text):
    return base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def micros(text):
    whole, _, fraction = text.rstrip("Z").partition(".")
    seconds = datetime.datetime.strptime(whole, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=datetime.timezone.utc) - EPOCH
    return int(seconds.total_seconds()) * 1_000_000 + int((fraction + "000000")[:6])


def rfc3339(at):
    time_ = EPOCH + datetime.timedelta(microseconds=at)
    return time_.strftime("%Y-%m-%dT%H:%M:%S") + (f".{at % 1_000_000:06}" if at % 1_000_000 else "") + "Z"


# --- conditions: each is a pair of the API's query and an SQL condition ------------------------------------------------


def column(key):
    return f"{key}_n" if key in NUMBERS else key


def value(key, of):
    return int(of) if key in NUMBERS else (of if isinstance(of, bytes) else of.encode())


def equals(key, of):
    return {"equals": {"eventItemKey": key, "eventItemValue": b64(str(of) if key in NUMBERS else of)}}, \
        (f"({column(key)} IS ?)", [value(key, of)])


def between(key, lower=None, upper=None):
    """Bounds are (value, inclusive)."""
    query, conditions, values = {"eventItemKey": key}, [f"{column(key)} IS NOT NULL"], []
    for name, bound, sign in (("lowerBound", lower, ">"), ("upperBound", upper, "<")):
        if bound is not None:
            query[name] = {"eventItemValue": b64(str(bound[0])), "inclusive": bound[1]}
            conditions.append(f"{column(key)} {sign}{'=' if bound[1] else ''} ?")
            values.append(value(key, bound[0]))
    return {"range": query}, ("(" + " AND ".join(conditions) + ")", values)


def prefix(key, of):
    return {"prefix": {"eventItemKey": key, "eventItemValue": b64(of)}}, \
        (f"({key} IS NOT NULL AND substr({key}, 1, ?) = ?)", [len(of.encode()), of.encode()])


def exists(key):
    return {"exists": {"eventItemKey": key}}, (f"({key} IS NOT NULL)", [])


def ids(*names):
    return {"timeSeriesIds": {"ids": list(names)}}, (f"(id IN ({','.join('?' * len(names))}))", list(names))


def combine(operator, *parts):
    query = {"booleanQuery": {"operator": operator, "searchQuery": [part[0] for part in parts]}}
    if operator == "NOT":
        # SQL's NOT of an unknown is unknown; here a condition holds or it does not.
        condition = f"(NOT COALESCE({parts[0][1][0]}, 0))"
    else:
        condition = "(" + f" {operator} ".join(f"COALESCE({part[1][0]}, 0)" for part in parts) + ")"
    return query, (condition, [one for part in parts for one in part[1][1]])


def all_of(*parts):
    return combine("AND", *parts)


def any_of(*parts):
    return combine("OR", *parts)


def none_of(part):
    return combine("NOT", part)


EVERYTHING = None, ("1", [])


# --- data --------------------------------------------------------------------------------------------------------------


def make_history(path, events=20_000):
    """Heavy-tailed ids, several events at one instant, 13 years; the same on every run."""
    dice = random.Random(20_111)
    at = micros("2011-08-01T23:41:24Z")
    step = 13 * 365 * 86_400 // (events // 3)
    authors = [f"{dice.getrandbits(32):08x}" for _ in range(300)]
    paths = [f"{top}/{part}/file{n}.java" for top in ("core/src", "clients/src", "docs", "streams")
             for part in ("main", "test") for n in range(150)]
    heavy = lambda of: of[int(len(of) * dice.random() ** 3)]
    number = lambda: str(int(2000 * dice.random() ** 4))
    made = 0
    with gzip.open(path, "wt", compresslevel=1) as out:
        def put(id_, event, **items):
            nonlocal made
            made += 1
            out.write(json.dumps({"timeSeriesId": id_, "eventTime": rfc3339(at), "eventId": event, "eventItems": [
                {"eventItemKey": key, "eventItemValue": b64(of)} for key, of in items.items()]}) + "\n")
        while made < events:
            at += dice.randrange(2 * step) * 1_000_000 if dice.random() < 0.9 else 0
            commit, author = f"{dice.getrandbits(48):012x}", heavy(authors)
            put("repo:kafka", commit, author=author)
            for n in range(dice.randrange(4)):
                path_, added, deleted = heavy(paths), number(), number()
                put(f"file:{path_}", f"{commit}-{n}", author=author, added=added, deleted=deleted)
                put(f"author:{author}", f"{commit}-{n}", path=path_, added=added, deleted=deleted)


def load(path):
    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE e (id TEXT, t INTEGER, event_id TEXT, author BLOB, path BLOB, added BLOB, deleted BLOB,"
               " added_n INTEGER, deleted_n INTEGER, PRIMARY KEY (id, t, event_id))")

    def number(of):
        try:
            return int(of)
        except (TypeError, ValueError):
            return None

    opened = gzip.open(path, "rt") if path.endswith(".gz") else open(path, encoding="utf-8")
    with opened as source:
        for line in source:
            record = json.loads(line)
            items = {i["eventItemKey"]: base64.b64decode(i.get("eventItemValue", "")) for i in record["eventItems"]}
            assert set(items) <= set(KEYS), items
            db.execute("INSERT INTO e VALUES (?,?,?,?,?,?,?,?,?)", (
                record["timeSeriesId"], micros(record["eventTime"]), record["eventId"], *(items.get(k) for k in KEYS),
                *(number(items.get(k)) for k in NUMBERS)))
    db.execute("CREATE INDEX by_time ON e (t)")
    return db


# --- comparing ---------------------------------------------------------------------------------------------------------


def report(name, rows, wrong, since):
    global failed
    failed += 1 if wrong else 0
    print(f"{name:<74} {rows:>7} rows  {time.monotonic() - since:6.1f} s  {'WRONG: ' + wrong if wrong else 'ok'}", flush=True)
    lines.append(name)


def interval_of(interval):
    if interval is None:
        return {}, "1", []
    start, end = (None if one is None else micros(one) for one in interval)
    body, conditions, values = {}, ["1"], []
    if start is not None:
        body["start"] = interval[0]
        conditions.append("t >= ?")
        values.append(start)
    if end is not None:
        body["end"] = interval[1]
        conditions.append("t < ?")
        values.append(end)
    return {"timeInterval": body}, " AND ".join(conditions), values


def search(db, slices, name, condition, interval=None, ascending=False, limit=0, mask=None):
    since = time.monotonic()
    query, (where, values) = condition
    body = {"namespace": NAMESPACE, "pageSize": PAGE, "latencySlo": SLO}
    if query is not None:
        body["searchQuery"] = query
    if ascending:
        body["direction"] = "ASCENDING"
    if limit:
        body["totalRecordLimit"] = str(limit)
    if mask:
        body["readMask"] = mask
    times, when, bounds = interval_of(interval)
    body.update(times)
    found, order, pages = [], None, 0
    while True:
        page = post(f"{EVENTS}/SearchEventRecords", body)
        records = page.get("records", [])
        context = page["responseContext"]
        assert len(records) <= PAGE and len(context) == 1
        order = context[0].get("order", order)
        found.extend(records)
        pages += 1
        token = page.get("nextPageToken", "")
        if not token:
            break
        body["pageToken"] = token
    got = [(r.get("timeSeriesId"), micros(r["eventTime"]) if "eventTime" in r else None, r["eventId"],
            tuple((i["eventItemKey"], base64.b64decode(i.get("eventItemValue", ""))) for i in r.get("eventItems", [])))
           for r in found]
    expected = [(id_, at, event, tuple(sorted((k, v) for k, v in zip(KEYS, items) if v is not None)))
                for id_, at, event, *items in db.execute(
                    f"SELECT id, t, event_id, author, path, added, deleted FROM e WHERE {when} AND {where}",
                    bounds + values)]
    wrong = ""
    if mask == "eventId":
        if sorted(g[2] for g in got) != sorted(e[2] for e in expected) or any(g[0] or g[1] or g[3] for g in got):
            wrong = "other ids, or more than ids"
    elif limit:
        if len(got) != min(limit, len(expected)) or not set(got) <= set(expected) or len(set(got)) != len(got):
            wrong = f"{len(got)} rows for a limit of {limit}"
    elif sorted(got) != sorted(expected):
        extra, missing = set(got) - set(expected), set(expected) - set(got)
        wrong = f"{len(got)} rows, not {len(expected)}; extra {list(extra)[:1]}, missing {list(missing)[:1]}"
    named = query is not None and ("timeSeriesIds" in query or any(
        "timeSeriesIds" in part for part in query.get("booleanQuery", {}).get("searchQuery", ())
        if query["booleanQuery"]["operator"] == "AND"))
    if not wrong and named != (order == "EVENT"):
        wrong = f"order {order}"
    if not wrong and not mask:
        sign = 1 if ascending else -1
        keys = [(g[1], g[2].encode()) for g in got]
        if order == "EVENT":
            if keys != sorted(keys, reverse=not ascending):
                wrong = "not in event order"
        else:
            at = [slices(g[1]) for g in got]
            if any(sign * a > sign * b for a, b in zip(at, at[1:])):
                wrong = "not in the order of slices"
            runs = {}
            for g, key, slice_ in zip(got, keys, at):
                partition = (slice_, g[0], g[1] // 86_400_000_000)
                before = runs.get(partition)
                if before is not None and (before >= key if ascending else before <= key):
                    wrong = "not in event order inside a partition"
                runs[partition] = key
    report(f"search {name}{' ascending' if ascending else ''} ({pages} pages)", len(got), wrong, since)


def aggregate(db, name, kind, key=None, condition=EVERYTHING, interval=None, width=None, by=None):
    since = time.monotonic()
    query, (where, values) = condition
    aggregation = {kind: {"eventItemKey": key} if key else {}}
    if width:
        aggregation["groupBy"] = {"timeWidth": f"{width}s"}
    if by:
        aggregation["groupBy"] = {"eventItemKey": by}
    body = {"namespace": NAMESPACE, "pageSize": PAGE, "latencySlo": SLO, "aggregationQuery": aggregation}
    if query is not None:
        body["searchQuery"] = query
    times, when, bounds = interval_of(interval)
    body.update(times)
    rows, partial, pages = [], False, 0
    while True:
        page = post(f"{EVENTS}/AggregateEventRecords", body)
        assert len(page.get("rows", [])) <= PAGE
        rows.extend(page.get("rows", []))
        partial |= page.get("partial", False)
        pages += 1
        token = page.get("nextPageToken", "")
        if not token:
            break
        body["pageToken"] = token
    got = {}
    order = []
    for row in rows:
        group = row.get("group", {})
        group = micros(group["time"]) if "time" in group else (
            base64.b64decode(group["eventItemValue"]) if "eventItemValue" in group else
            b"" if by and "group" in row else None)
        of = base64.b64decode(row.get("eventItemValue", "")) if kind == "distinct" else None
        result = next((int(row[k]) if k == "integerValue" else row[k] if k == "doubleValue" else
                       base64.b64decode(row[k]) for k in ("integerValue", "doubleValue", "keywordValue") if k in row), None)
        one = (int(row.get("count", 0)), float(row.get("sum", 0)), result)
        if (group, of) in got:
            assert partial, f"two rows of {group}"
            a, b = got[group, of], one
            result = {"min": min, "max": max}.get(kind, lambda x, y: x + y)(a[2], b[2])
            one = (a[0] + b[0], a[1] + b[1], (a[1] + b[1]) / (a[0] + b[0]) if kind == "avg" else result)
        else:
            order.append((group, of))
        got[group, of] = one
    group = f"t / {width * 1_000_000} * {width * 1_000_000}" if width else by if by else "NULL"
    inner = [when, where]
    if by:
        inner.append(f"{by} IS NOT NULL")
    if key:
        inner.append(f"{column(key)} IS NOT NULL")
    of = key if kind == "distinct" else "NULL"
    computed = {"count": "count(*)", "distinct": "NULL", "min": f"min({column(key or '')})", "max": f"max({column(key or '')})",
                "sum": f"sum({column(key or '')})", "avg": f"avg({column(key or '')})"}[kind]
    total = f"sum({column(key)})" if kind in ("sum", "avg") else "0"
    grouping = " GROUP BY 1, 2" if width or by or kind == "distinct" else ""
    expected = {(g, o): (count, float(total or 0), result) for g, o, count, total, result in db.execute(
        f"SELECT {group}, {of}, count(*), {total}, {computed} FROM e WHERE {' AND '.join(inner)}{grouping}",
        bounds + values)}
    wrong = ""

    def same(a, b):
        if a[0] != b[0] or abs(a[1] - b[1]) > 1e-6 * max(1, abs(b[1])):
            return False
        if kind == "distinct":
            return True
        return a[2] == b[2] or (kind == "avg" and a[2] is not None and b[2] is not None and abs(a[2] - b[2]) < 1e-9 * max(1, abs(b[2])))
    if set(got) != set(expected):
        wrong = f"groups: {len(got)}, not {len(expected)}; {list(set(got) ^ set(expected))[:2]}"
    else:
        bad = [(k, got[k], expected[k]) for k in got if not same(got[k], expected[k])]
        wrong = f"{len(bad)} rows: {bad[0]}" if bad else ""
    def in_order(row):
        group, of = row
        return group is not None, group, of is not None, value(key, of) if of is not None else None
    if not wrong and not partial and order != sorted(order, key=in_order):
        wrong = "rows out of order"
    report(f"aggregate {name} ({pages} pages{', partial' if partial else ''})", len(got), wrong, since)


def main():
    global url
    url, binary = sys.argv[1], sys.argv[2]
    temp = tempfile.TemporaryDirectory()
    path = sys.argv[3] if len(sys.argv) > 3 else os.path.join(temp.name, "history.ndjson.gz")
    if len(sys.argv) <= 3:
        make_history(path)
    db = load(path)
    (events,) = db.execute("SELECT count(*) FROM e").fetchone()
    post(f"{ADMIN}/CreateNamespace", {"namespace": {
        "name": NAMESPACE, "acceptLimit": "0s", "fieldMapping": {key: "INTEGER" for key in NUMBERS}}})
    subprocess.run([binary, "write", NAMESPACE, "--file", path, "--server", url], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    starts = []
    body = {"namespace": NAMESPACE, "pageSize": 1000}
    while True:
        page = post(f"{ADMIN}/ListTimeSlices", body)
        starts += [micros(s["interval"]["start"]) for s in page["timeSlices"]]
        if not page.get("nextPageToken"):
            break
        body["pageToken"] = page["nextPageToken"]
    assert starts == sorted(starts)
    import bisect
    slices = lambda at: bisect.bisect_right(starts, at)
    print(f"{events} events in {len(starts)} time slices")

    top = [a for (a,) in db.execute("SELECT author FROM e WHERE author NOT NULL GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 3")]
    wide = [i for (i,) in db.execute("SELECT id FROM e GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 6")]
    (file_id,) = db.execute("SELECT id FROM e WHERE id LIKE 'file:%' GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1").fetchone()
    (path_,) = db.execute("SELECT path FROM e WHERE path NOT NULL GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1").fetchone()
    (nested,) = db.execute("SELECT path FROM e WHERE instr(path, x'2f') GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1").fetchone()
    folder = nested.decode().split("/")[0] + "/"
    year = ("2019-01-01T00:00:00Z", "2020-01-01T00:00:00Z")
    a, b = top[0], top[1]

    def s(name, *args, **more):
        try:
            search(db, slices, name, *args, **more)
        except Refused as error:
            report(f"search {name}", 0, str(error), time.monotonic())

    def g(name, *args, **more):
        try:
            aggregate(db, name, *args, **more)
        except Refused as error:
            report(f"aggregate {name}", 0, str(error), time.monotonic())

    s("equals keyword", equals("author", b), interval=year)
    s("equals keyword", equals("author", b), interval=year, ascending=True)
    s("equals integer", equals("added", 100))
    s("equals of nothing", equals("author", "no such author"))
    s("range [a, b] integer", between("added", (100, True), (110, True)))
    s("range (a, b) integer", between("added", (100, False), (110, False)))
    s("range [a, b) integer", between("added", (100, True), (110, False)), ascending=True)
    s("range (a, b] integer", between("deleted", (9, False), (12, True)), interval=year)
    s("range [a, integer", between("added", (1500, True)))
    s("range b) integer", between("deleted", None, (1, False)), interval=("2012-01-01T00:00:00Z", "2012-06-01T00:00:00Z"))
    s("range [a, b) keyword", between("path", (folder[:2], True), (folder[:3], False)), interval=year)
    s("prefix", prefix("path", folder), interval=year)
    s("prefix of a whole value", prefix("path", path_.decode()))
    s("exists", exists("path"), interval=("2015-03-01T00:00:00Z", "2015-06-01T00:00:00Z"))
    s("NOT exists", none_of(exists("added")), interval=year)
    s("AND", all_of(equals("author", a), between("added", (10, True), None), between("deleted", None, (5, False))))
    s("OR", any_of(equals("author", top[2]), equals("path", path_)), interval=year)
    s("AND of OR and NOT", all_of(any_of(equals("author", a), equals("author", b)), none_of(between("added", (3, True)))),
      interval=("2018-01-01T00:00:00Z", None))
    s("NOT of OR of NOT", none_of(any_of(none_of(exists("author")), between("deleted", None, (20, True)))))
    s("everything of a month", EVERYTHING, interval=("2016-02-01T00:00:00Z", "2016-03-01T00:00:00Z"))
    s("everything of a month", EVERYTHING, interval=("2016-02-01T00:00:00Z", "2016-03-01T00:00:00Z"), ascending=True)
    s("one id", ids(wide[1]))
    s("several ids", ids(*wide[1:4], "no such id"), interval=year)
    s("several ids", ids(*wide[1:4], "no such id"), interval=year, ascending=True)
    s("ids AND equals", all_of(ids(wide[0], file_id), equals("author", a)))
    s("ids AND NOT range", all_of(ids(*wide), none_of(between("added", (2, True), None))), ascending=True,
      interval=(None, "2017-01-01T00:00:00Z"))
    s("ids OR equals", any_of(ids(file_id), equals("added", 333)))
    s("NOT ids", none_of(ids(*wide)), interval=("2014-01-01T00:00:00Z", "2014-02-01T00:00:00Z"))
    s("exists with a limit of 250", exists("author"), limit=250)
    s("equals with a read mask", equals("author", b), interval=year, mask="eventId")

    g("count", "count")
    g("count of an item", "count", "path")
    g("count of a query", "count", condition=all_of(equals("author", a), between("added", (5, True))))
    g("count of nothing", "count", condition=equals("author", "no such author"))
    g("count by year's width", "count", width=31_536_000)
    g("count by week", "count", width=604_800, interval=("2013-01-01T00:00:00Z", "2017-01-01T00:00:00Z"))
    g("count by author", "count", by="author")
    g("distinct authors", "distinct", "author")
    g("distinct authors of a year", "distinct", "author", interval=year)
    g("distinct added by 30 days", "distinct", "added", width=30 * 86_400, interval=year)
    g("min integer", "min", "added")
    g("max integer", "max", "added")
    g("min keyword", "min", "path")
    g("max keyword of a query", "max", "path", condition=between("added", (10, True), (20, True)))
    g("max by author", "max", "deleted", by="author")
    g("sum", "sum", "added")
    g("sum by day", "sum", "added", width=86_400, interval=year)
    g("sum by author", "sum", "deleted", by="author", condition=exists("path"))
    g("sum over ids", "sum", "added", condition=ids(*wide))
    g("avg", "avg", "deleted")
    g("avg by 30 days", "avg", "added", width=30 * 86_400)
    g("avg by author of a query", "avg", "added", by="author", condition=between("deleted", None, (100, False)))
    print(f"queries.py: {len(lines)} queries, {len(lines) - failed} equal, {failed} not")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
