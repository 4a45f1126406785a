"""`machinery doctor` and `machinery gcp create-resources`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf import duration_pb2
from google.pubsub_v1 import types

from machinery.abc import Config, Message
from machinery.errors import BrokerUnavailable, ConfigError
from machinery_broker_gcp import PubsubBroker
from machinery_broker_gcp._examination import _of_any
from tests.plugins.broker_gcp.conftest import PROJECT, Ended, MakeQueue, config_with
from tests.services.processes import free_port
from tests.services.pubsub import Stubs

Policy = types.DeadLetterPolicy.pb()
MakeBroker = Callable[..., PubsubBroker]


def topic(name: str) -> str:
    return f"projects/{PROJECT}/topics/{name}"


def subscription(name: str) -> str:
    return f"projects/{PROJECT}/subscriptions/{name}"


def said(broker: PubsubBroker, level: str) -> str:
    return "\n".join(finding.text for finding in broker.examine() if finding.level == level)


def test_what_the_command_makes_is_well(broker: PubsubBroker, make_queue: MakeQueue, config: Config) -> None:
    make_queue(config.default_queue)
    findings = broker.examine()
    assert {finding.level for finding in findings} == {"ok"}
    assert len(findings) == 3


def test_the_command_says_what_it_has_made_and_what_was_there(
    url: str, config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    create = PubsubBroker.commands["create-resources"]
    arguments = [url, "--default-queue", config.default_queue, "--exactly-once", "--retention-days", "3"]
    assert create(arguments) == 0
    first = capsys.readouterr().out.splitlines()
    assert len(first) == 6
    assert all(line.endswith(": made") for line in first)
    assert create(arguments) == 0
    assert all(line.endswith(": is there") for line in capsys.readouterr().out.splitlines())


def test_exactly_once_is_told(broker: PubsubBroker, make_queue: MakeQueue, config: Config) -> None:
    make_queue(config.default_queue, "--exactly-once")
    assert "delivers exactly once" in said(broker, "ok")


@pytest.mark.parametrize(
    "arguments", [["--retention-days", "0"], ["--retention-days", "32"], []], ids=["0", "32", "no"]
)
def test_the_command_refuses_what_cannot_be(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        PubsubBroker.commands["create-resources"](["gcppubsub://p/sub", *arguments] if arguments else [])


def test_the_command_says_that_pubsub_is_away() -> None:
    url = f"gcppubsub://p/sub?connect_timeout=0.2&emulator_host=127.0.0.1:{free_port()}"
    with pytest.raises(BrokerUnavailable):
        PubsubBroker.commands["create-resources"]([url])


def test_all_that_is_missing_is_an_error_that_names_the_command(broker: PubsubBroker, config: Config) -> None:
    errors = [finding.text for finding in broker.examine() if finding.level == "error"]
    assert len(errors) == 3
    assert all("machinery gcp create-resources gcppubsub://" in text for text in errors)
    with pytest.raises(ConfigError, match="create-resources"):
        broker.consumer(config.default_queue, "me").receive(1, 5)


def test_a_worker_does_not_begin_without_the_topics_beside_its_queue(
    broker: PubsubBroker, config: Config, raw: Stubs
) -> None:
    queue = config.default_queue
    raw.create_topic(topic(queue))
    raw.create_subscription(subscription(f"sub-{queue}"), topic(queue))
    with pytest.raises(ConfigError, match=f"{queue}-delay"):
        broker.consumer(queue, "me").receive(1, 5)


@pytest.mark.parametrize("which", ["delay", "dead"])
def test_a_worker_does_not_begin_where_what_it_puts_aside_would_be_dropped(
    broker: PubsubBroker, make_queue: MakeQueue, config: Config, raw: Stubs, which: str
) -> None:
    queue = make_queue(config.default_queue)
    raw.delete_subscription(subscription(f"{queue}-{which}"))
    with pytest.raises(ConfigError, match=f"no subscription '{queue}-{which}'"):
        broker.consumer(queue, "me").receive(1, 5)


def test_a_subscription_that_serves_another_queue_already_is_refused(
    broker: PubsubBroker, make_queue: MakeQueue, config: Config
) -> None:
    # Given a queue that is named as the subscription of the default one
    make_queue(config.default_queue)
    queue = f"sub-{config.default_queue}"

    # When all it needs is to be made, or a worker of it begins, then what is sent there is not left to be dropped
    with pytest.raises(ConfigError, match=f"is one of '{config.default_queue}', not of '{queue}'"):
        make_queue(queue)
    with pytest.raises(ConfigError, match=f"is one of '{config.default_queue}', not of '{queue}'"):
        broker.consumer(queue, "me").receive(1, 0.1)


def test_a_subscription_that_loses_or_buries_tasks_is_warned_of(
    make_broker: MakeBroker, make_queue: MakeQueue, config: Config, raw: Stubs
) -> None:
    # Given subscriptions that somebody has made by hand
    queue = config.default_queue
    for name in (queue, f"{queue}-delay", f"{queue}-dead", f"{queue}-other"):
        raw.create_topic(topic(name))
    policy = Policy(dead_letter_topic=topic(f"{queue}-other"), max_delivery_attempts=5)
    raw.create_subscription(
        subscription(f"sub-{queue}"),
        topic(queue),
        dead_letter_policy=policy,
        retry_policy=types.RetryPolicy.pb()(minimum_backoff=duration_pb2.Duration(seconds=10)),
        message_retention_duration=duration_pb2.Duration(seconds=600),
        expiration_policy=types.ExpirationPolicy.pb()(ttl=duration_pb2.Duration(seconds=86400 * 31)),
    )
    raw.create_subscription(subscription(f"{queue}-delay"), topic(f"{queue}-delay"), dead_letter_policy=policy)
    raw.create_subscription(subscription(f"{queue}-dead"), topic(f"{queue}-other"))
    broker = make_broker()

    # When doctor looks
    warnings, errors = said(broker, "warning"), said(broker, "error")

    # Then each is told with what to do
    for words in (
        "gives up after 5 deliveries",
        "which `machinery dead` does not read",
        "has a retry policy",
        "keeps messages for 0:10:00 only",
        "nobody has read it for 31 days",
    ):
        assert words in warnings
    for words in ("is given up then", f"is one of '{queue}-other', not of"):
        assert words in errors


def test_a_subscription_that_is_not_for_workers_is_an_error(broker: PubsubBroker) -> None:
    # The test server makes neither filters nor deliveries of its own.
    found = types.Subscription.pb()(
        topic=topic("q"), filter="attributes:lang", push_config=types.PushConfig.pb()(push_endpoint="https://elsewhere")
    )
    errors = [finding.text for finding in _of_any(broker._client, "q", "sub", found) if finding.level == "error"]
    assert len(errors) == 2
    assert "delivers elsewhere by itself" in errors[0]
    assert "what does not match it is lost" in errors[1]


def test_a_subscription_without_a_dead_letter_policy_cannot_count(
    broker: PubsubBroker, config: Config, raw: Stubs
) -> None:
    queue = config.default_queue
    raw.create_topic(topic(queue))
    raw.create_subscription(subscription(f"sub-{queue}"), topic(queue))
    assert "has no dead-letter policy" in said(broker, "warning")


def test_who_may_work_but_not_look_is_told_so_and_works(
    broker: PubsubBroker, make_queue: MakeQueue, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = make_queue(config.default_queue)
    call = broker._client._call_once

    def denied(method: Any, request: Any) -> Any:
        if "/Get" in method.path:
            raise Ended(grpc.StatusCode.PERMISSION_DENIED, "User not authorized to perform this action.")
        return call(method, request)

    monkeypatch.setattr(broker._client, "_call_once", denied)
    assert said(broker, "error") == ""
    assert said(broker, "warning").count("we may not look") == 3
    broker.publish([Message(b"{}", queue)])
    consumer = broker.consumer(queue, "me")
    assert consumer.ack(consumer.receive(1, 15)) == []


def test_credentials_that_are_refused_are_no_finding_but_an_error(
    broker: PubsubBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> Any:
        raise Ended(grpc.StatusCode.UNAUTHENTICATED, "Request had invalid authentication credentials.")

    monkeypatch.setattr(broker._client, "_call_once", refused)
    with pytest.raises(ConfigError, match="GOOGLE_APPLICATION_CREDENTIALS"):
        broker.examine()


class TestWithOrderingKeys:
    @pytest.fixture
    def config(self) -> Config:
        return config_with(ordering_keys=True)

    def test_a_subscription_without_ordering_is_an_error(
        self, broker: PubsubBroker, config: Config, raw: Stubs
    ) -> None:
        queue = config.default_queue
        raw.create_topic(topic(queue))
        raw.create_subscription(subscription(f"sub-{queue}"), topic(queue))
        assert "has no message ordering" in said(broker, "error")

    def test_the_command_makes_such_ones(self, broker: PubsubBroker, make_queue: MakeQueue, config: Config) -> None:
        make_queue(config.default_queue, "--ordering")
        assert said(broker, "error") == ""


class TestWithAMap:
    @pytest.fixture
    def config(self) -> Config:
        return config_with(subscriptions={"mail-of-somebody": "mailers-of-somebody"})

    def test_the_queues_of_the_map_are_looked_at_too(self, broker: PubsubBroker, config: Config) -> None:
        assert "mailers-of-somebody" in said(broker, "error") or "mail-of-somebody" in said(broker, "error")
