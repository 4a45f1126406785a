"""What `machinery doctor` says about a RabbitMQ."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from machinery.abc import Config, Finding, Message
from machinery_broker_amqp import AmqpBroker
from tests.plugins.broker_amqp.conftest import config_with


def said(findings: list[Finding], level: str) -> str:
    return "\n".join(finding.text for finding in findings if finding.level == level)


def test_a_server_is_fine_and_its_version_is_told(broker: AmqpBroker) -> None:
    found = broker.examine()

    assert {finding.level for finding in found} == {"ok"}
    assert said(found, "ok").startswith("RabbitMQ 3.")
    assert "guest:guest" not in said(found, "ok")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"prefetch_count": 0}, "amqp.prefetch_count is 0"),
        ({"heartbeat": 0}, "amqp.heartbeat is 0"),
        ({"queue_declare_args": {"x-queue-type": "quorum"}}, "x-delivery-limit"),
    ],
)
def test_dangerous_settings_are_named(broker_of: Callable[..., AmqpBroker], options: dict[str, Any], text: str) -> None:
    assert text in said(broker_of(config_with(**options)).examine(), "warning")


def test_go_copies_that_nobody_reads_are_counted(broker: AmqpBroker, config: Config, raw: Any) -> None:
    key = config.sections["amqp"]["binding_key"]
    assert "nobody reads" not in said(broker.examine(), "warning")
    raw.confirm_delivery()
    raw.queue_declare(key, durable=True)  # as a Go sender does
    raw.queue_bind(key, config.sections["amqp"]["exchange"], key)

    broker.publish([Message(b"{}", config.default_queue)] * 3)

    warned = said(broker.examine(), "warning")
    assert f"the queue {key!r} holds 3 messages that nobody reads" in warned
    assert f"Set amqp.binding_key to {config.default_queue!r}" in warned
    raw.queue_delete(key)


def test_a_queue_that_was_declared_differently_is_an_error(
    broker: AmqpBroker, broker_of: Callable[..., AmqpBroker], config: Config
) -> None:
    broker.publish([Message(b"{}", config.default_queue)])
    options = {**config.sections["amqp"], "queue_declare_args": {"x-max-priority": 10}}
    other = broker_of(dataclasses.replace(config, sections={"amqp": options}))

    assert "leave x-max-priority out" in said(other.examine(), "error")
