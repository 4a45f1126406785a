"""What ``machinery doctor`` has to say about a RabbitMQ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from machinery.abc import Finding
from machinery.errors import ConfigError
from machinery_broker_amqp._looking import count

if TYPE_CHECKING:
    from machinery_broker_amqp._link import Link
    from machinery_broker_amqp._session import Session
    from machinery_broker_amqp._topology import Topology


def examine(link: Link, topology: Topology) -> list[Finding]:
    """What is found. Raises `BrokerUnavailable`."""
    options = link.service.options
    findings: list[Finding] = []

    async def version(session: Session) -> str:
        return session.version

    findings.append(Finding("ok", f"{link.call(version)} at {link.service.address}"))
    default = topology.default_queue
    try:
        link.call(lambda session: topology.declare(session, [default]))
    except ConfigError as error:
        findings.append(Finding("error", str(error)))
    orphan = topology.default_key
    if orphan != default and (left := link.call(lambda session: count(session, orphan))):
        findings.append(
            Finding(
                "warning",
                f"the queue {orphan!r} holds {left} messages that nobody reads: Go's senders copy each task there. Set "
                f"amqp.binding_key to {default!r} on both sides, or delete that queue now and then",
            )
        )
    arguments = options.queue_declare_args
    if arguments.get("x-queue-type") == "quorum" and arguments.get("x-delivery-limit", 0) != -1:
        findings.append(
            Finding(
                "warning",
                "quorum queues count all deliveries, handed back ones included, and RabbitMQ 4 drops a message after 20; "
                "set x-delivery-limit to -1 in amqp.queue_declare_args there (crashes are counted by the workers)",
            )
        )
    if options.prefetch_count == 0:
        findings.append(
            Finding(
                "warning", "amqp.prefetch_count is 0: a worker takes all there is, and others get nothing; leave it out"
            )
        )
    if not options.heartbeat:
        findings.append(
            Finding("warning", "amqp.heartbeat is 0: a connection that is dead goes unnoticed; 60 s is usual")
        )
    return findings
