"""Writes and pages with grpcio and reflection alone: no generated file, no knowledge of the .proto files.

usage: client.py HOST:PORT
"""

import sys

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

EVENTS = "anabranch.timeseries.v1.TimeSeriesService"
ADMIN = "anabranch.admin.v1.AdminService"
HEALTH = "grpc.health.v1.Health"
NAMESPACE = "python_client"

checks = 0


def check(condition, what):
    global checks
    if not condition:
        sys.exit(f"client.py: FAILED: {what}")
    checks += 1
    print(f"  ok  {what}")


def services_by(channel, version):
    """The services as one version of reflection lists them. The messages of both versions are the same on the wire."""
    call = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )
    answer = next(call(iter([reflection_pb2.ServerReflectionRequest(list_services="")])))
    return sorted(service.name for service in answer.list_services_response.service)


class Client:
    def __init__(self, address):
        self.channel = grpc.insecure_channel(address)
        self.pool = DescriptorPool(ProtoReflectionDescriptorDatabase(self.channel))

    def message(self, name):
        return GetMessageClass(self.pool.FindMessageTypeByName(name))

    def method(self, service, name):
        found = self.pool.FindServiceByName(service).FindMethodByName(name)
        return found, GetMessageClass(found.input_type), GetMessageClass(found.output_type)

    def call(self, service_name, name, /, **fields):
        _, request, response = self.method(service_name, name)
        call = self.channel.unary_unary(f"/{service_name}/{name}", request.SerializeToString, response.FromString)
        return call(request(**fields), timeout=30)

    def stream(self, service, name, requests):
        _, request, response = self.method(service, name)
        call = self.channel.stream_stream(f"/{service}/{name}", request.SerializeToString, response.FromString)
        return call(iter([request(**fields) for fields in requests]), timeout=30)

    def error(self, service, name, /, **fields):
        """The code, the ErrorInfo and the other details of a call that has to fail."""
        try:
            self.call(service, name, **fields)
        except grpc.RpcError as error:
            packed = dict(error.trailing_metadata()).get("grpc-status-details-bin")
            check(packed is not None, f"{name}: the error has rich details")
            status = self.message("google.rpc.Status").FromString(packed)
            details = {}
            for one in status.details:
                kind = one.type_url.rsplit("/", 1)[-1]
                details.setdefault(kind, []).append(self.message(kind).FromString(one.value))
            infos = details.get("google.rpc.ErrorInfo", [])
            check(len(infos) == 1 and infos[0].domain == "anabranch.dev", f"{name}: exactly one ErrorInfo of ours")
            return error.code(), infos[0], details
        sys.exit(f"client.py: FAILED: {name} should have failed")


def event(series, n):
    seconds, micros = 1767225600 + n // 3, n % 3
    return {
        "time_series_id": series,
        "event_time": {"seconds": seconds, "nanos": micros * 1000},
        "event_id": f"event-{n:05}",
        "event_items": [
            {"event_item_key": "n", "event_item_value": str(n).encode()},
            {"event_item_key": "payload", "event_item_value": bytes([n % 256]) * (n % 50)},
        ],
    }


def walk(client, **fields):
    token, records, pages = "", [], 0
    while True:
        page = client.call(EVENTS, "ReadEventRecords", namespace=NAMESPACE, page_token=token, **fields)
        check(len(page.response_context) == 1, "a page has one context") if pages == 0 else None
        records.extend(page.records)
        pages += 1
        token = page.next_page_token
        if not token:
            return records, pages


def main(address):
    client = Client(address)
    for version in ("v1alpha", "v1"):
        names = services_by(client.channel, version)
        for wanted in (EVENTS, ADMIN, HEALTH):
            check(wanted in names, f"reflection {version} lists {wanted}")
    # Nothing is listed that does not work yet, and everything that is listed can be described.
    for name in services_by(client.channel, "v1"):
        check(len(client.pool.FindServiceByName(name).methods) > 0, f"reflection describes {name}")
    for service in ("", EVENTS, ADMIN):
        health = client.call(HEALTH, "Check", service=service)
        check(health.status == 1, f"`{service}` is SERVING")

    created = client.call(ADMIN, "CreateNamespace", namespace={"name": NAMESPACE, "accept_limit": {"seconds": 0}})
    check(created.name == NAMESPACE and created.seconds_per_time_slice == 604800, "a namespace with its defaults")

    total = 1000
    written = client.call(
        EVENTS, "WriteEventRecordsSync", namespace=NAMESPACE, events=[event("a", n) for n in range(500)]
    )
    check(written.written == 500, "500 events written and durable")
    again = client.call(
        EVENTS, "WriteEventRecordsSync", namespace=NAMESPACE, events=[event("a", n) for n in range(250)]
    )
    check(again.written == 250, "250 of them written again")
    batches = [
        {"namespace": NAMESPACE, "batch_id": str(start), "events": [event("a", n) for n in range(start, start + 50)]}
        for start in range(500, total, 50)
    ]
    answers = list(client.stream(EVENTS, "IngestEventRecords", batches))
    check(sorted(answer.batch_id for answer in answers) == sorted(batch["batch_id"] for batch in batches),
          "every batch of a stream is acked by its id")
    check(all(answer.written == 50 and not answer.HasField("status") for answer in answers), "and is durable")

    expected = [event("a", n) for n in range(total)]
    for page_size in (7, 100, 1000):
        for direction in (1, 2):
            records, pages = walk(client, time_series_id="a", page_size=page_size, direction=direction)
            wanted = expected if direction == 2 else expected[::-1]
            same = len(records) == total and all(
                (r.event_time.seconds, r.event_time.nanos, r.event_id) ==
                (w["event_time"]["seconds"], w["event_time"]["nanos"], w["event_id"])
                and [(i.event_item_key, i.event_item_value) for i in r.event_items] ==
                [(i["event_item_key"], i["event_item_value"]) for i in w["event_items"]]
                for r, w in zip(records, wanted)
            )
            check(same, f"{total} events in {pages} pages of {page_size}, direction {direction}")
    page = client.call(
        EVENTS, "ReadEventRecords", namespace=NAMESPACE, time_series_id="a", page_size=5,
        time_interval={"start": {"seconds": 1767225600}, "end": {"seconds": 1767225601}}, read_mask={"paths": ["event_id"]},
    )
    check([r.event_id for r in page.records] == ["event-00002", "event-00001", "event-00000"]
          and not page.records[0].event_items, "an interval and a read mask")
    found = client.call(
        EVENTS, "SearchEventRecords", namespace=NAMESPACE,
        search_query={"equals": {"event_item_key": "n", "event_item_value": b"77"}},
    )
    check([r.event_id for r in found.records] == ["event-00077"], "a search finds one event")
    counted = client.call(EVENTS, "AggregateEventRecords", namespace=NAMESPACE, aggregation_query={"count": {}})
    check([row.count for row in counted.rows] == [total], "an aggregate counts them")

    code, info, details = client.error(EVENTS, "ReadEventRecords", namespace="no_such", time_series_id="a")
    check((code, info.reason) == (grpc.StatusCode.NOT_FOUND, "NAMESPACE_NOT_FOUND"), "an unknown namespace")
    check("google.rpc.ResourceInfo" in details, "comes with a ResourceInfo")
    code, info, details = client.error(
        EVENTS, "ReadEventRecords", namespace=NAMESPACE, time_series_id="a", page_size=-1)
    check((code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_PAGE_SIZE"), "a negative page size")
    fields = [violation.field for violation in details["google.rpc.BadRequest"][0].field_violations]
    check(fields == ["page_size"], f"names its field: {fields}")
    old = dict(event("a", 0), event_time={"seconds": 4102444800})
    code, info, details = client.error(EVENTS, "WriteEventRecordsSync", namespace=NAMESPACE, events=[old])
    check((code, info.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "EVENT_TOO_FAR_AHEAD"), "an event of 2100")
    check("google.rpc.PreconditionFailure" in details, "comes with a PreconditionFailure")

    client.call(ADMIN, "DeleteNamespace", name=NAMESPACE)
    code, info, _ = client.error(ADMIN, "GetNamespace", name=NAMESPACE)
    check(info.reason == "NAMESPACE_NOT_FOUND", "a deleted namespace is gone")
    print(f"client.py: {checks} checks passed")


if __name__ == "__main__":
    main(sys.argv[1])
