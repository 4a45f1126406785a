"""``machinery gcp create-resources``: makes the topics and subscriptions of queues, or says that they are there."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import timedelta

from machinery.abc import Config
from machinery_broker_gcp._client import Client
from machinery_broker_gcp._options import SCHEME, to_service
from machinery_broker_gcp._resources import Wanted, create


def create_resources(arguments: Sequence[str]) -> int:
    """Make what queues need, each unless it is there. Returns the exit status. Raises `ConfigError`, `BrokerUnavailable`."""
    parsed = _parser().parse_args(arguments)
    config = Config.from_env()
    if parsed.default_queue:
        config = config.with_(default_queue=parsed.default_queue)
    service = to_service(parsed.url, config)
    wanted = Wanted(
        ack_deadline=service.options.ack_deadline,
        retention=timedelta(days=parsed.retention_days),
        exactly_once=parsed.exactly_once,
        ordering=parsed.ordering or service.options.ordering_keys,
    )
    client = Client(service)
    try:
        for queue in dict.fromkeys(parsed.queue or [config.default_queue]):
            for line in create(client, queue, wanted):
                sys.stdout.write(f"{line}\n")
    finally:
        client.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="machinery gcp create-resources",
        description=(
            "For each queue make three topics, each with a subscription: the queue's own, one for what waits for its time "
            "(…-delay) and one for dead letters (…-dead). What is there already stays as it is."
        ),
    )
    parser.add_argument("url", metavar="URL", help=f"as for a server: {SCHEME}://project/subscription")
    parser.add_argument(
        "--queue", metavar="NAME", action="append", help="a queue; may be repeated (default: the default queue alone)"
    )
    parser.add_argument(
        "--default-queue",
        metavar="NAME",
        help="the queue that the URL's subscription serves (default: DEFAULT_QUEUE, else machinery_tasks)",
    )
    parser.add_argument("--ordering", action="store_true", help="deliver what has one ordering key in order")
    parser.add_argument(
        "--exactly-once", action="store_true", help="have Pub/Sub tell when an acknowledgement comes too late"
    )
    parser.add_argument(
        "--retention-days", metavar="DAYS", type=_days, default=7, help="how long to keep what nobody takes (default 7)"
    )
    return parser


def _days(said: str) -> int:
    days = int(said)
    if not 1 <= days <= 31:  # noqa: PLR2004 - Pub/Sub's longest
        raise argparse.ArgumentTypeError(f"{days} is not from 1 to 31")
    return days
