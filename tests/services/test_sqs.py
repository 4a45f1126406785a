"""The doubles of SQS do what the tests of its plug-in take for granted."""

from __future__ import annotations

import pytest

from tests.services.sqs import Queues, SqsServer, dead_letters_of, queue_url


def test_a_message_on_loan_is_neither_lost_nor_given_twice(sqs_queues: Queues) -> None:
    queue = sqs_queues.create(VisibilityTimeout=30)
    address = queue_url(sqs_queues.url, queue)
    sqs_queues.send(queue, "one")
    [loan] = sqs_queues.client.receive_message(QueueUrl=address)["Messages"]
    assert "Messages" not in sqs_queues.client.receive_message(QueueUrl=address)
    sqs_queues.client.change_message_visibility(
        QueueUrl=address, ReceiptHandle=loan["ReceiptHandle"], VisibilityTimeout=0
    )
    [again] = sqs_queues.take(queue)
    assert again["Body"] == "one"
    assert again["Attributes"]["ApproximateReceiveCount"] == "2"
    assert sqs_queues.counts(queue) == (0, 0, 0)


def test_a_message_received_too_often_is_a_dead_letter(sqs_queues: Queues) -> None:
    queue = sqs_queues.with_dead_letters(max_receives=1, VisibilityTimeout=0)
    sqs_queues.send(queue, "one")
    address = queue_url(sqs_queues.url, queue)
    assert sqs_queues.client.receive_message(QueueUrl=address)["Messages"]
    assert "Messages" not in sqs_queues.client.receive_message(QueueUrl=address)
    assert [message["Body"] for message in sqs_queues.take(dead_letters_of(queue))] == ["one"]


def test_a_server_that_was_stopped_has_kept_its_messages(sqs_server: SqsServer) -> None:
    queues = Queues(sqs_server.url)
    queue = queues.create()
    queues.send(queue, "one")
    sqs_server.restart()
    assert [message["Body"] for message in queues.take(queue)] == ["one"]
    queues.close()


def test_the_stricter_double_refuses_a_delay_that_amazon_refuses(moto_url: str) -> None:
    from botocore.exceptions import ClientError  # noqa: PLC0415 - present where the URL is

    queues = Queues(moto_url)
    queue = queues.create()
    with pytest.raises(ClientError, match="DelaySeconds"):
        queues.send(queue, "one", DelaySeconds=901)
    queues.close()
