"""The bus for Python services: emit events, work as a member of a group, follow queues.

A thin client of turnpike.bus.v1, which is generated from bus.proto beside it:

    python -m grpc_tools.protoc -I ../../proto/proto --python_out=. --grpc_python_out=. turnpike/bus/v1/bus.proto

Everything is at least once: an event may be handled again, and a handler must be idempotent by `event.id`.
"""

import json
import logging
import queue
import random
import threading
import time
import uuid
from concurrent import futures
from dataclasses import dataclass

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from turnpike.bus.v1 import bus_pb2 as wire
from turnpike.bus.v1 import bus_pb2_grpc

log = logging.getLogger("turnpike_bus")

AGAIN = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED}
# The ends of a stream that are reasons to open it again: a broker that restarts, a connection that broke, a client that slept.
REOPEN = AGAIN | {grpc.StatusCode.ABORTED, grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
KEEPALIVE = [("grpc.keepalive_time_ms", 30_000), ("grpc.keepalive_timeout_ms", 10_000)]
MODES = {"parallel": wire.Group.PARALLEL, "keyed": wire.Group.KEYED, "exclusive": wire.Group.EXCLUSIVE}
LEVELS = {"stored": wire.STORED, "fsynced": wire.FSYNCED, "delivered": wire.DELIVERED}


class Retry(Exception):
    """Raised by a handler: again, after `delay` seconds, else by the bus's schedule. Any other exception does the same."""

    def __init__(self, reason="", delay=None):
        super().__init__(reason)
        self.delay = delay


class Dead(Exception):
    """Raised by a handler: never again; the event becomes a dead letter of the group."""


@dataclass
class Delivery:
    """An event in a handler's hands. `lost` is set when it is somebody else's: the handler should stop."""

    event: wire.Event
    attempt: int
    token: str
    lost: threading.Event

    @property
    def data(self):
        """The JSON data, or the bytes of another media type."""
        return read_data(self.event)


def read_data(event):
    kind = event.WhichOneof("data")
    return json.loads(event.json) if kind == "json" else event.binary if kind == "binary" else None


def details(error):
    """What a program goes by: the reason of an error, and the seconds after which it may be tried again, if it says."""
    reason, after = None, None
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
                if detail.Unpack(info):
                    reason = info.reason
                elif detail.Unpack(retry):
                    after = retry.retry_delay.ToTimedelta().total_seconds()
    return reason, after


class Backoff:
    """Longer after each failure in a row, with jitter, and no sooner than the server says."""

    def __init__(self, first=0.1, most=10.0):
        self.first, self.most, self.failures = first, most, 0

    def pause(self, after=None):
        doubled = min(self.most, self.first * 2 ** min(self.failures, 16))
        self.failures += 1
        return max(doubled * random.uniform(0.5, 1.0), after or 0)

    def reset(self):
        self.failures = 0


class Bus:
    """A connection to the bus through the gateway: `Bus("127.0.0.1:8080", api_key="…")`. With `secure`, over TLS."""

    def __init__(self, target, api_key=None, token=None, secure=False):
        if secure:
            self.channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(), KEEPALIVE)
        else:
            self.channel = grpc.insecure_channel(target, KEEPALIVE)
        self.stub = bus_pb2_grpc.BusStub(self.channel)
        self.metadata = []
        if api_key:
            self.metadata.append(("x-api-key", api_key))
        if token:
            self.metadata.append(("authorization", f"Bearer {token}"))

    def close(self):
        self.channel.close()

    def emit(self, address, data=None, *, id=None, subject="", key="", confirm="stored", timeout=10.0, patience=30.0, **more):
        """Publishes `QUEUE/EVENT` and returns its receipt. Tried again for up to `patience` seconds while the bus is away: its
        id is made here, so that it is recorded once. `more` are other attributes of the event."""
        name, event = address.split("/")
        body = {"binary": data} if isinstance(data, bytes) else {} if data is None else {"json": json.dumps(data)}
        event = wire.Event(
            id=id or str(uuid.uuid4()), queue=name, event=event, subject=subject, partition_key=key, **body, **more
        )
        wanted = wire.Confirm(level=LEVELS[confirm], timeout=seconds(timeout))
        request = wire.PublishRequest(events=[event], confirm=wanted)
        backoff, end = Backoff(), time.monotonic() + patience
        while True:
            try:
                answer = self.stub.Publish(request, metadata=self.metadata, timeout=timeout + 5)
                return answer.outcomes[0].receipt
            except grpc.RpcError as error:
                _, after = details(error)
                pause = backoff.pause(after)
                if error.code() not in AGAIN or time.monotonic() + pause > end:
                    raise
                time.sleep(pause)

    def subscribe(self, filter, cursor=None, begin=wire.LATEST):
        """Yields what a subscriber is told, for ever: responses with `event`, `gap`, `caught_up` or `place`. Goes on from the
        last cursor after a break; keep `cursor_of(response)` to go on after a restart."""
        backoff = Backoff()
        while True:
            place = wire.Begin(cursor=cursor) if cursor else wire.Begin(edge=begin)
            request = wire.SubscribeRequest(filter=filter, begin=place)
            try:
                for response in self.stub.Subscribe(request, metadata=self.metadata):
                    backoff.reset()
                    cursor = cursor_of(response)
                    if response.WhichOneof("message") != "opened":
                        yield response
                after = None
            except grpc.RpcError as error:
                if error.code() not in REOPEN:
                    raise
                _, after = details(error)
            time.sleep(backoff.pause(after))

    def consume(self, group, filter, handler, *, mode="parallel", concurrency=8, lease=30.0, max_processing=900.0, stop=None):
        """Works as a member of the group until `stop` (a threading.Event) is set: calls `handler(delivery)` in as many threads as
        `concurrency`. A handler that returns acknowledges; see Retry and Dead. Reconnects by itself."""
        declared = wire.Group(
            name=group, filter=filter, mode=MODES[mode], lease=seconds(lease), max_processing=seconds(max_processing)
        )
        Member(self, declared, handler, concurrency, stop or threading.Event()).run()


def seconds(number):
    duration = Duration()
    duration.FromNanoseconds(int(number * 1_000_000_000))
    return duration


def cursor_of(response):
    """Where a subscriber goes on from after this."""
    told = getattr(response, response.WhichOneof("message"))
    return told.to if response.HasField("gap") else told.cursor


class Member:
    """The loop of a member of a group. What runs, and what is settled but not known to be, outlives a stream: leases belong to
    deliveries, so the next stream settles them."""

    def __init__(self, bus, group, handler, concurrency, stop):
        self.bus, self.group, self.handler, self.stop = bus, group, handler, stop
        self.concurrency = concurrency
        self.threads = futures.ThreadPoolExecutor(concurrency)
        self.lock = threading.Lock()
        self.running = {}  # token -> Delivery
        self.unsettled = {}  # token -> Settlement that no answer has come to yet
        self.stream = None

    def run(self):
        backoff = Backoff()
        while True:
            stream = self.stream = Stream(self)
            after = None
            try:
                stream.run(backoff)
            except grpc.RpcError as error:
                reason, after = details(error)
                if error.code() not in REOPEN:
                    raise
                log.info("the stream ended: %s %s", reason or error.code().name, error.details())
            if self.stop.is_set() and not self.running and not self.unsettled:
                self.threads.shutdown()
                return
            pause = backoff.pause(after or stream.retry_after)
            # Whoever stops waits a little, too: a bus that is away isn't asked without end.
            if self.stop.is_set():
                time.sleep(min(pause, 1.0))
            else:
                self.stop.wait(pause)

    def begin(self, delivery):
        with self.lock:
            self.running[delivery.token] = delivery
        self.threads.submit(self.handle, delivery)

    def handle(self, delivery):
        if self.stop.is_set():
            return self.settle(delivery, release=wire.Settlement.Release())
        try:
            self.handler(delivery)
            verb = {"ack": wire.Settlement.Ack()}
        except Dead as dead:
            verb = {"dead": wire.Settlement.Dead(reason=str(dead))}
        except Exception as failure:
            nack = wire.Settlement.Nack(reason=f"{type(failure).__name__}: {failure}")
            if getattr(failure, "delay", None) is not None:
                nack.delay.CopyFrom(seconds(failure.delay))
            verb = {"nack": nack}
        self.settle(delivery, **verb)

    def settle(self, delivery, **verb):
        settlement = wire.Settlement(token=delivery.token, **verb)
        with self.lock:
            self.running.pop(delivery.token, None)
            if delivery.lost.is_set():
                return
            self.unsettled[delivery.token] = settlement
        self.stream.say(settle=wire.ConsumeRequest.Settle(settlements=[settlement]))

    def settled(self, outcomes):
        with self.lock:
            for outcome in outcomes:
                self.unsettled.pop(outcome.token, None)
                if outcome.HasField("refusal"):
                    log.warning("%s: %s", outcome.token, outcome.refusal.reason)
                    self.lose(outcome.token)

    def lose(self, token):
        if token in self.running:
            self.running[token].lost.set()


class Stream:
    """One stream of a member, from hello to its end."""

    def __init__(self, member):
        self.member = member
        self.outgoing = queue.SimpleQueue()
        self.beat = 1.0
        self.said = time.monotonic()
        self.retry_after = None
        with member.lock:
            # From an earlier stream: the server doesn't extend these, so their member does.
            self.carried = set(member.running)
            again = list(member.unsettled.values())
        self.say(hello=wire.ConsumeRequest.Hello(group=member.group, credit=member.concurrency))
        for start in range(0, len(again), 1000):
            self.say(settle=wire.ConsumeRequest.Settle(settlements=again[start : start + 1000]))

    def say(self, **message):
        self.outgoing.put(wire.ConsumeRequest(**message))

    def run(self, backoff):
        call = self.member.bus.stub.Consume(self.requests(), metadata=self.member.bus.metadata)
        try:
            for response in call:
                backoff.reset()
                self.hear(response)
        finally:
            call.cancel()

    def hear(self, response):
        kind = response.WhichOneof("message")
        if kind == "welcome":
            self.beat = response.welcome.beat.ToTimedelta().total_seconds()
        elif kind == "deliveries":
            for told in response.deliveries.deliveries:
                self.member.begin(Delivery(told.event, told.attempt, told.token, threading.Event()))
        elif kind == "settled":
            self.member.settled(response.settled.outcomes)
        elif kind == "lease_lost":
            with self.member.lock:
                for token in response.lease_lost.tokens:
                    self.member.lose(token)
        elif kind == "go_away":
            self.retry_after = response.go_away.retry_after.ToTimedelta().total_seconds()

    def requests(self):
        """What is to be said, and a sign of life at every beat; the last word once nothing is left to be settled."""
        stopping = False
        while True:
            if self.member.stop.is_set() and not stopping:
                stopping = True
                yield wire.ConsumeRequest(credit=wire.ConsumeRequest.Credit(credit=0))
            with self.member.lock:
                if stopping and not self.member.running and not self.member.unsettled:
                    return
                self.carried &= set(self.member.running)
                extended = [wire.Settlement(token=token, extend=wire.Settlement.Extend()) for token in self.carried]
            try:
                # Looks up often enough to notice that it is to stop.
                yield self.outgoing.get(timeout=min(self.beat / 4, 0.25))
            except queue.Empty:
                if time.monotonic() - self.said < self.beat / 2:
                    continue
                if extended:
                    yield wire.ConsumeRequest(settle=wire.ConsumeRequest.Settle(settlements=extended))
                else:
                    yield wire.ConsumeRequest(beat=wire.ConsumeRequest.Beat())
            self.said = time.monotonic()
