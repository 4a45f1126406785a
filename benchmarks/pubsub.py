"""Measure Pub/Sub beside bare loops: ``make bench-pubsub``, or ``make bench-pubsub ARGS='--rounds 1 --tasks 2000'``.

Tasks that add two numbers are sent in batches of a thousand and drained by one worker in the same process; results are in Redis.
Beside it, in turns, two loops on the same service that do no more than they must: one on the bare calls, which takes what a
StreamingPull brings, runs it, stores the results in one pipeline and acknowledges them in one call, and one on Google's client,
with a callback for each message. The service is that of the tests, or what PUBSUB_EMULATOR_HOST names: it says little about
Google's, and takes as much CPU as whoever is measured. The clock of a drain runs from the first task to the last. The medians
of the rounds are shown.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, redirect_stdout
from io import StringIO
from queue import SimpleQueue
from typing import Any
from uuid import uuid4

import grpc
from google.api_core.client_options import ClientOptions
from google.cloud import pubsub_v1
from google.pubsub_v1 import types
from google.pubsub_v1.services.subscriber.transports.grpc import SubscriberGrpcTransport
from redis import Redis

from machinery import Server, Signature
from machinery.abc import Config
from machinery_broker_gcp import PubsubBroker
from tests.services import pubsub, redis
from tests.services.chain import Source, Unobtainable

BATCH = 1_000
HELD = 1_000
"""Messages that a loop may have unsettled."""
LEASE = 60
RESULTS_LIVE = 3600
PROJECT = "machinery-bench"


class Place:
    """A queue that nobody else uses."""

    def __init__(self, host: str, results: str) -> None:
        own = uuid4().hex
        self.host = host
        self.results = results
        self.queue = f"bench-{own}"
        self.url = f"gcppubsub://{PROJECT}/{self.queue}?emulator_host={host}"
        self.topic = f"projects/{PROJECT}/topics/{self.queue}"
        self.subscription = f"projects/{PROJECT}/subscriptions/{self.queue}"
        with redirect_stdout(StringIO()):
            PubsubBroker.commands["create-resources"]([self.url, "--default-queue", self.queue])


def main(arguments: Sequence[str]) -> int:
    """Carry out the command line."""
    parser = argparse.ArgumentParser(prog="make bench-pubsub", description="Measure Pub/Sub beside bare loops.")
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is measured (default 5)")
    parser.add_argument("--tasks", type=int, default=5000, help="of a round (default 5000)")
    given = parser.parse_args(arguments)
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in RUNNERS}
    with ExitStack() as services:
        try:
            host = services.enter_context(_served(pubsub.SOURCES))
            results = f"{services.enter_context(_served(redis.SOURCES)).rstrip('/')}/1"
        except Unobtainable as error:
            print(f"bench-pubsub: {error}", file=sys.stderr)
            return 1
        for _ in range(given.rounds):
            for name, run in RUNNERS.items():
                sending, draining = run(Place(host, results), given.tasks)
                rates[name].append((given.tasks / sending, given.tasks / draining))
    print(_table(rates))
    return 0


@contextmanager
def _served(sources: dict[str, Source]) -> Iterator[str]:
    """Where the service is, by the environment or in a process of our own."""
    for name in ("environment", "program"):
        with ExitStack() as stack:
            try:
                where = stack.enter_context(sources[name]())
            except Unobtainable:
                if name == "program":
                    raise
                continue
            yield where
            return


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


# -- this project -----------------------------------------------------------------------------------------------------------


def with_machinery(place: Place, count: int) -> tuple[float, float]:
    """Seconds for sending and for draining."""
    done = _Countdown(count)

    def add(one: int, other: int) -> int:
        done.note()
        return one + other

    config = Config(broker=place.url, result_backend=place.results, lock="memory://", default_queue=place.queue)
    with Server.from_config(config) as server:
        server.register_task("add", add)
        signatures = [Signature("add", [number, 1]) for number in range(count)]
        sending = _seconds(
            lambda: [server.send_tasks(signatures[begin : begin + BATCH]) for begin in range(0, count, BATCH)]
        )
        worker = server.new_worker("bench", 10)

        worker.start()
        draining = done.wait()
        worker.quit()
        worker.join(30)
    return sending, draining


class _Countdown:
    """The seconds between the first task and the last."""

    def __init__(self, count: int) -> None:
        self._first = count - 1
        self._left = iter(range(count - 1, -1, -1))
        self._times: list[float] = []
        self._done = threading.Event()

    def note(self) -> None:
        left = next(self._left)  # one step of a built-in iterator: threads may share it
        if left in (self._first, 0):
            self._times.append(time.perf_counter())
        if left == 0:
            self._done.set()

    def wait(self) -> float:
        if not self._done.wait(300):
            raise RuntimeError("a task was lost")
        return max(self._times) - min(self._times)


# -- the bare calls ---------------------------------------------------------------------------------------------------------


def with_bare_calls(place: Place, count: int) -> tuple[float, float]:
    """The same, with raw messages and no more calls than it takes."""
    with closing(pubsub.Stubs(place.host)) as stubs, Redis.from_url(place.results) as results:
        sending = _seconds(lambda: _send_bare(place, stubs, results, count))
        draining = _drain_bare(place, stubs, results, count)
    return sending, draining


def _send_bare(place: Place, stubs: pubsub.Stubs, results: Redis, count: int) -> None:
    for begin in range(0, count, BATCH):
        messages = [_message(number) for number in range(begin, min(count, begin + BATCH))]
        _store(results, [(message["UUID"], "PENDING", []) for message in messages])
        stubs.publish(place.topic, *(json.dumps(message, separators=(",", ":")).encode() for message in messages))


def _drain_bare(place: Place, stubs: pubsub.Stubs, results: Redis, count: int) -> float:
    requests: SimpleQueue[Any] = SimpleQueue()
    requests.put(
        types.StreamingPullRequest.pb()(
            subscription=place.subscription, stream_ack_deadline_seconds=LEASE, max_outstanding_messages=HELD
        )
    )
    call = stubs.streaming_pull(iter(requests.get, None))
    left, start = count, 0.0
    for response in call:
        start = start or time.perf_counter()
        received = response.received_messages
        _store(results, [_run(json.loads(each.message.data)) for each in received])
        stubs.acknowledge(place.subscription, [each.ack_id for each in received])
        left -= len(received)
        if left <= 0:
            break
    taken = time.perf_counter() - start
    call.cancel()
    requests.put(None)
    return taken


def _message(number: int) -> dict[str, Any]:
    args = [{"Name": "", "Type": "int64", "Value": value} for value in (number, 1)]
    return {"UUID": f"task_{uuid4()}", "Name": "add", "RoutingKey": "", "ETA": None, "Args": args, "Headers": {}}


def _run(message: dict[str, Any]) -> tuple[str, str, list[dict[str, Any]]]:
    one, other = (arg["Value"] for arg in message["Args"])
    return message["UUID"], "SUCCESS", [{"Type": "int64", "Value": one + other}]


def _store(results: Redis, states: Sequence[tuple[str, str, list[dict[str, Any]]]]) -> None:
    with results.pipeline(transaction=False) as pipeline:
        for uuid, state, values in states:
            record = {"TaskUUID": uuid, "TaskName": "add", "State": state, "Results": values, "Error": "", "TTL": 0}
            pipeline.set(uuid, json.dumps(record, separators=(",", ":")), ex=RESULTS_LIVE)
        pipeline.execute()


# -- Google's client --------------------------------------------------------------------------------------------------------


def with_googles_client(place: Place, count: int) -> tuple[float, float]:
    """The same, with a callback for each message, which stores one result."""
    done = _Countdown(count)
    channel = grpc.insecure_channel(place.host)
    transport = SubscriberGrpcTransport(channel=channel)
    options = ClientOptions(api_endpoint=place.host)
    with (
        closing(pubsub.Stubs(place.host)) as stubs,
        Redis.from_url(place.results) as results,
        pubsub_v1.SubscriberClient(transport=transport, client_options=options) as client,
    ):
        sending = _seconds(lambda: _send_bare(place, stubs, results, count))

        def callback(message: Any) -> None:
            _store(results, [_run(json.loads(message.data))])
            message.ack()
            done.note()

        future = client.subscribe(
            place.subscription, callback, flow_control=pubsub_v1.types.FlowControl(max_messages=HELD)
        )
        draining = done.wait()
        future.cancel()
        future.result()
    return sending, draining


RUNNERS: dict[str, Callable[[Place, int], tuple[float, float]]] = {
    "machinery": with_machinery,
    "bare calls": with_bare_calls,
    "Google's client": with_googles_client,
}


def _table(rates: dict[str, list[tuple[float, float]]]) -> str:
    lines = ["| | sent /s | drained /s | drained, beside bare calls |", "| --- | --- | --- | --- |"]
    medians = {name: [statistics.median(each) for each in zip(*found, strict=True)] for name, found in rates.items()}
    for name, (sent, drained) in medians.items():
        lines.append(f"| {name} | {sent:,.0f} | {drained:,.0f} | {drained / medians['bare calls'][1]:.2f}x |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
