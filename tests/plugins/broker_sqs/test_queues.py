"""``machinery sqs create-queues``, what `machinery doctor` says, and the application's own client."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import boto3
import pytest
from botocore.config import Config as ClientConfig

from machinery.abc import Message
from machinery.errors import BrokerUnavailable, Closed, ConfigError
from machinery.testing._expectations import eventually
from machinery_broker_sqs import SqsBroker
from machinery_broker_sqs._command import create_queues
from machinery_broker_sqs._errors import QueueMissing
from machinery_broker_sqs._queues import Queues as Addresses
from tests.plugins.broker_sqs.conftest import config_with

if TYPE_CHECKING:
    from tests.services.sqs import Queues


@pytest.fixture
def name() -> str:
    return f"made-{uuid4().hex}"


def said(broker: SqsBroker, level: str) -> str:
    return "\n".join(finding.text for finding in broker.examine() if finding.level == level)


def broker_of(queues: Queues, queue: str, **options: Any) -> SqsBroker:
    return SqsBroker.from_url(queues.url, config_with(queue, **options))


def test_queues_are_made_with_their_places_for_dead_letters_and_doctor_is_content(
    sqs_queues: Queues, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert create_queues([sqs_queues.url, name, f"{name}.fifo", "--visibility-timeout", "60"]) == 0
    assert f"made {name}\n" in capsys.readouterr().out
    for queue, dead in ((name, f"{name}-dead"), (f"{name}.fifo", f"{name}-dead.fifo")):
        policy = json.loads(sqs_queues.attributes(queue)["RedrivePolicy"])
        assert policy["deadLetterTargetArn"].endswith(f":{dead}")
        assert policy["maxReceiveCount"] == 100
        with closing(broker_of(sqs_queues, queue)) as broker:
            assert not said(broker, "error")
            assert not said(broker, "warning")
            broker.publish([Message(b"a", queue)])
            assert "about 1 messages wait" in said(broker, "ok")
    assert create_queues([sqs_queues.url, name]) == 0
    assert f"{name} is there" in capsys.readouterr().out


def test_a_queue_that_has_no_place_for_dead_letters_gets_one(sqs_queues: Queues) -> None:
    queue = sqs_queues.create(VisibilityTimeout=77)
    assert create_queues([sqs_queues.url, queue, "--dead-letters", f"{queue}-graves", "--max-receives", "9"]) == 0
    found = sqs_queues.attributes(queue)
    assert json.loads(found["RedrivePolicy"])["maxReceiveCount"] == 9
    assert found["VisibilityTimeout"] == "77"


def test_a_queue_that_was_just_made_is_waited_for(
    sqs_queues: Queues, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    attributes = Addresses.attributes
    unknown = iter([True, True])

    def late(self: Addresses, queue: str, *names: str) -> dict[str, str]:
        if names == ("QueueArn",) and next(unknown, False):
            raise QueueMissing("not yet")
        return attributes(self, queue, *names)

    monkeypatch.setattr(Addresses, "attributes", late)
    assert create_queues([sqs_queues.url, name]) == 0
    assert sqs_queues.attributes(name)["RedrivePolicy"]


def test_the_flags_say_what_is_made(sqs_queues: Queues, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFAULT_QUEUE", name)
    assert create_queues([sqs_queues.url, "--fifo", "--no-dead-letters", "--visibility-timeout", "5"]) == 0
    found = sqs_queues.attributes(f"{name}.fifo")
    assert found["FifoQueue"] == "true"
    assert found["VisibilityTimeout"] == "5"
    assert "RedrivePolicy" not in found


def test_wrong_arguments_are_refused(sqs_queues: Queues, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="FIFO"):
        create_queues([sqs_queues.url, f"{name}.fifo", "--dead-letters", name])
    with pytest.raises(SystemExit):
        create_queues([sqs_queues.url, name, "--max-receives", "1001"])
    assert "not from 1 to 1000" in capsys.readouterr().err


def test_doctor_says_what_is_missing_and_what_is_dangerous(sqs_queues: Queues) -> None:
    with closing(broker_of(sqs_queues, "nowhere")) as broker:
        assert "create-queues" in said(broker, "error")
    queue = sqs_queues.create(VisibilityTimeout=1, MessageRetentionPeriod=60, MaximumMessageSize=2000)
    with closing(broker_of(sqs_queues, queue)) as broker:
        warnings = said(broker, "warning")
        for words in ("no redrive policy", "visibility timeout", "keeps messages for 60 s", "2000 bytes"):
            assert words in warnings
    queue = sqs_queues.with_dead_letters(max_receives=3)
    with closing(broker_of(sqs_queues, queue)) as broker:
        warnings = said(broker, "warning")
        assert "received 3 times" in warnings
        assert "keeps its age" in warnings


def test_a_server_that_is_away_is_unavailable_and_named() -> None:
    with closing(SqsBroker.from_url("sqs://127.0.0.1:1/0", config_with())) as broker:
        for ask in (
            broker.examine,
            lambda: broker.publish([Message(b"a", "q")]),
            lambda: broker.purge("q"),
            lambda: broker.dead("q", 1),
            lambda: broker.consumer("q", "c").receive(1, 1),
        ):
            with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:1"):
                ask()


def test_without_an_account_the_address_is_asked_for(sqs_queues: Queues, queue: str) -> None:
    url = sqs_queues.url.rpartition("/")[0]
    with closing(SqsBroker.from_url(url, config_with())) as broker:
        broker.publish([Message(b"a", queue)])
        with pytest.raises(ConfigError, match="nowhere"):
            broker.purge("nowhere")
    assert [each["Body"] for each in sqs_queues.take(queue)] == ["a"]


def test_an_applications_own_client_serves_and_stays_its_own(sqs_queues: Queues, queue: str) -> None:
    account = sqs_queues.url.rpartition("/")[2]
    broker = SqsBroker(sqs_queues.client, None, account=account)
    broker.publish([Message(b"%d" % number, queue) for number in range(15)])
    with closing(broker.consumer(queue, "c")) as consumer:
        first = consumer.receive(10, 10)
        assert consumer.ack([*first, *consumer.receive(10, 10)]) == []
    broker.close()
    with pytest.raises(Closed):
        broker.purge(queue)
    assert sqs_queues.counts(queue) == (0, 0, 0)


def test_an_applications_client_says_where_the_queues_are_and_not_the_section(sqs_queues: Queues) -> None:
    with closing(SqsBroker(sqs_queues.client, config_with(endpoint_url="http://elsewhere:1"), account="1")) as broker:
        assert broker._queues.address("q") == f"{sqs_queues.client.meta.endpoint_url}/1/q"


def test_a_receive_waits_for_less_than_an_applications_client_waits_for_an_answer(
    sqs_queues: Queues, queue: str
) -> None:
    with closing(
        boto3.session.Session().client(
            "sqs", "us-east-1", endpoint_url=sqs_queues.client.meta.endpoint_url, config=ClientConfig(read_timeout=2)
        )
    ) as client:
        broker = SqsBroker(client, account=sqs_queues.url.rpartition("/")[2])

        def waits_for_less() -> bool:
            try:
                return broker.consumer(queue, "c").receive(1, 3) == []
            except BrokerUnavailable:  # always where it waits for too long, now and then where SQS is busy
                return False

        assert eventually(waits_for_less)
        broker.close()


@pytest.mark.parametrize("wrong", [None, "sqs", object()], ids=["none", "text", "object"])
def test_what_is_no_client_is_a_config_error(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"boto3\.client\('sqs'\)"):
        SqsBroker(wrong)


def test_a_client_of_another_service_is_a_config_error(aws_credentials: None) -> None:
    with closing(boto3.session.Session().client("dynamodb", "eu-west-1")) as client, pytest.raises(ConfigError):
        SqsBroker(client)
