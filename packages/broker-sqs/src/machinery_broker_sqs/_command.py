"""``machinery sqs create-queues``: makes queues, each with one for its dead letters, or says that they are there."""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from typing import TYPE_CHECKING

from machinery.abc import Config
from machinery.errors import ConfigError
from machinery_broker_sqs._client import Client, Pauses
from machinery_broker_sqs._driver import make_clients
from machinery_broker_sqs._errors import QueueMissing
from machinery_broker_sqs._options import SQS_SECTION, to_service
from machinery_broker_sqs._queues import FIFO, Queues, is_fifo, target_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from machinery_broker_sqs._options import Service

_RETENTION = 1_209_600
"""Seconds: SQS's longest."""
_RECEIVES = 100
"""A message that is handed back is counted; a crash is found out by the workers long before."""
_MOST_RECEIVES = 1000
_SETTLES_WITHIN = 10.0
"""Seconds that SQS has to find a queue that was just made."""


def create_queues(arguments: Sequence[str]) -> int:
    """Make queues, each unless it is there, and have their dead letters kept. Returns the exit status.

    What the arguments leave out is as in the environment (``DEFAULT_QUEUE``, ``AWS_REGION``, …). A queue that is there keeps its
    settings; one without a place for dead letters gets one. Raises `ConfigError`, `BrokerUnavailable`.
    """
    parsed = _parser().parse_args(arguments)
    config = Config.from_env()
    service = _to_service(parsed, config)
    client = Client(
        partial(make_clients, service),
        service.options,
        address=service.address,
        patience=service.read_timeout.total_seconds(),
    )
    try:
        for name in parsed.queues or [config.default_queue]:
            queue = name if is_fifo(name) or not parsed.fifo else f"{name}{FIFO}"
            for line in _Making(client, parsed).make(queue):
                sys.stdout.write(f"{line}\n")
    finally:
        client.close()
    return 0


class _Making:
    def __init__(self, client: Client, parsed: argparse.Namespace) -> None:
        self._client = client
        self._queues = Queues(client)
        self._parsed = parsed

    def make(self, queue: str) -> Iterator[str]:
        if self._parsed.no_dead_letters:
            yield self._create(queue, {})
            return
        found = self._find(queue)
        if found is not None and (target := target_of(found.get("RedrivePolicy"))[0]):
            yield f"{queue} is there, and its dead letters go to {target}"
            return
        target = self._parsed.dead_letters or _dead_queue(queue)
        if is_fifo(target) != is_fifo(queue):
            raise ConfigError(
                f"dead letters of {queue} cannot go to {target}: of a FIFO queue they go to a FIFO queue, of another to another"
            )
        yield self._create(target, {})
        arn = self._arn(target)
        policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": self._parsed.max_receives})
        if found is None:
            yield self._create(queue, {"RedrivePolicy": policy})
        else:
            self._client.call(
                "set_queue_attributes",
                queue,
                QueueUrl=self._queues.address(queue),
                Attributes={"RedrivePolicy": policy},
            )
            yield f"{queue} is there, and has a place for dead letters now"
        yield f"dead letters of {queue} go to {target}"

    def _find(self, queue: str) -> dict[str, str] | None:
        try:
            return self._queues.attributes(queue)
        except QueueMissing:
            return None

    def _arn(self, queue: str) -> str:
        """Of a queue that is there, or was just made: SQS may not know it yet, and says a second is to be waited."""
        pauses = Pauses(_SETTLES_WITHIN)
        while True:
            try:
                return self._queues.attributes(queue, "QueueArn")["QueueArn"]
            except QueueMissing:
                if not pauses.take():
                    raise

    def _create(self, queue: str, more: dict[str, str]) -> str:
        if self._find(queue) is not None:
            return f"{queue} is there"
        attributes = {
            "MessageRetentionPeriod": str(self._parsed.retention),
            "VisibilityTimeout": str(self._parsed.visibility_timeout),
            **({"FifoQueue": "true"} if is_fifo(queue) else {}),
            **more,
        }
        self._client.call("create_queue", queue, QueueName=queue, Attributes=attributes)
        return f"made {queue}"


def _dead_queue(queue: str) -> str:
    return f"{queue.removesuffix(FIFO)}-dead{FIFO}" if is_fifo(queue) else f"{queue}-dead"


def _to_service(parsed: argparse.Namespace, config: Config) -> Service:
    named = {"region": parsed.region, "endpoint_url": parsed.endpoint_url}
    section = {
        **config.sections.get(SQS_SECTION.name, {}),
        **{key: value for key, value in named.items() if value is not None},
    }
    return to_service(parsed.url, config.with_(sections={**config.sections, SQS_SECTION.name: section}))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="machinery sqs create-queues",
        description="Make queues, each unless it is there already, and one beside each for its dead letters.",
    )
    parser.add_argument(
        "url",
        metavar="URL",
        help="as for a server: https://sqs.eu-west-1.amazonaws.com/123456789012, sqs://localhost:4566/000000000000",
    )
    parser.add_argument(
        "queues",
        metavar="QUEUE",
        nargs="*",
        help="default: DEFAULT_QUEUE, else machinery_tasks; a FIFO queue ends in .fifo",
    )
    parser.add_argument("--fifo", action="store_true", help="add .fifo to names that do not end in it")
    parser.add_argument(
        "--dead-letters", metavar="QUEUE", help="where dead letters go (default: the queue's name with -dead)"
    )
    parser.add_argument("--no-dead-letters", action="store_true", help="make no place for dead letters")
    parser.add_argument(
        "--max-receives",
        metavar="N",
        type=partial(_between, 1, _MOST_RECEIVES),
        default=_RECEIVES,
        help=f"after so many receives SQS gives a message up by itself (default {_RECEIVES})",
    )
    parser.add_argument(
        "--visibility-timeout",
        metavar="SECONDS",
        type=partial(_between, 0, 43_200),
        default=30,
        help="of the new queues, for workers that ask for none, such as Go's (default 30)",
    )
    parser.add_argument(
        "--retention",
        metavar="SECONDS",
        type=partial(_between, 60, _RETENTION),
        default=_RETENTION,
        help=f"how long messages are kept that nobody takes (default {_RETENTION}, 14 days)",
    )
    parser.add_argument("--region", metavar="REGION", help="where the URL names none")
    parser.add_argument("--endpoint-url", metavar="URL", help="where to reach SQS instead of AWS's own address")
    return parser


def _between(least: int, most: int, said: str) -> int:
    number = int(said)
    if not least <= number <= most:
        raise argparse.ArgumentTypeError(f"{number} is not from {least} to {most}")
    return number
