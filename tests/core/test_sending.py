"""From a signature to the queue: completed, checked, stored as PENDING, published."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from machinery import Arg, Config, Server, Signature, State, group
from machinery.abc import Message, SubmitAndPublish
from machinery.errors import BackendUnavailable, DelayTooLong, EncodeError, PriorityNotSupported, PublishError
from machinery.wire import decode_signature
from tests.core.observed import Journal, ObservedBackend, ObservedBroker

QUEUE = "machinery_tasks"


def test_pending_is_stored_before_the_message_is_published(server: Server, journal: Journal) -> None:
    before = datetime.now(UTC)
    result = server.send_task(Signature("add", [1]))

    assert journal.entries == ["submit add", "publish add"]
    state = result.task_state()
    assert state.state is State.PENDING
    assert state.task_name == "add"
    assert before <= state.created_at <= datetime.now(UTC)


def test_many_are_sent_as_one_batch_and_answered_in_order(server: Server, journal: Journal) -> None:
    results = server.send_tasks(Signature("add", [number]) for number in range(3))
    assert journal.entries == ["submit add"] * 3 + ["publish add"] * 3
    assert [result.signature.args for result in results if result.signature] == [(Arg("int64", n),) for n in range(3)]
    assert [task.uuid for task in server.pending_tasks()] == [result.uuid for result in results]


def test_sending_nothing_asks_nobody(server: Server, journal: Journal) -> None:
    assert server.send_tasks([]) == []
    assert journal.entries == []


def test_a_signature_is_completed_as_go_wants_it(server: Server) -> None:
    result = server.send_task(Signature("add"))
    (sent,) = server.pending_tasks()
    assert result.uuid.startswith("task_")
    assert sent.uuid == result.uuid
    assert sent.routing_key == QUEUE
    assert sent.headers == {}


def test_a_signature_with_an_id_keeps_it_and_its_record_starts_afresh(server: Server, backend: ObservedBackend) -> None:
    result = server.send_task(Signature("add", uuid="task_mine"))
    backend.save([result.task_state().__class__("task_mine", "add", State.SUCCESS, ())])
    assert server.send_task(Signature("add", uuid="task_mine")).uuid == "task_mine"
    assert result.state is State.PENDING


def test_the_same_object_can_be_sent_twice(server: Server) -> None:
    signature = Signature("add")
    assert server.send_task(signature).uuid != server.send_task(signature).uuid
    assert signature.uuid == ""


def test_the_queue_is_left_out_of_the_body_where_go_leaves_it_out(backend: ObservedBackend) -> None:
    broker = ObservedBroker(routing_key_in_body=False)
    Server(Config(), broker, backend).send_task(Signature("add", routing_key="special"))
    (message,) = broker.pending("special", 1)
    assert decode_signature(message.body).routing_key == ""


@pytest.mark.parametrize("given", ["", QUEUE, "the_key"])
def test_the_default_queues_routing_key_is_the_one_go_writes(backend: ObservedBackend, given: str) -> None:
    broker = ObservedBroker(default_routing_key="the_key")
    server = Server(Config(), broker, backend)
    server.send_tasks([Signature("add", routing_key=given), Signature("add", routing_key="special")])
    (message,) = broker.pending(QUEUE, 10)
    assert decode_signature(message.body).routing_key == "the_key"
    (other,) = broker.pending("special", 10)
    assert decode_signature(other.body).routing_key == "special"


def test_headers_are_text_where_gos_workers_can_send_on_nothing_else(backend: ObservedBackend) -> None:
    headers = {"text": "1", "flag": True, "number": 7, "nothing": None, "list": [1, "a"]}
    expected = {"text": "1", "flag": True, "number": "7", "nothing": "null", "list": '[1, "a"]'}
    nested = Signature("next", headers=headers, on_error=(Signature("sad", headers=headers),))
    for is_text, wanted in ((True, expected), (False, headers)):
        broker = ObservedBroker(headers_are_text=is_text)
        Server(Config(), broker, backend).send_task(Signature("add", headers=headers, on_success=(nested,)))
        (message,) = broker.pending(QUEUE, 10)
        sent = decode_signature(message.body)
        assert sent.headers == wanted
        assert sent.on_success[0].headers == wanted
        assert sent.on_success[0].on_error[0].headers == wanted
        assert message.headers == wanted


def test_an_eta_is_asked_of_the_broker_as_far_as_it_can(backend: ObservedBackend) -> None:
    eta = datetime.now(UTC) + timedelta(days=1)
    for longest, expected in ((None, timedelta(days=1)), (timedelta(hours=1), timedelta(hours=1))):
        broker = ObservedBroker(max_delay=longest)
        Server(Config(), broker, backend).send_task(Signature("add", eta=eta))
        (message,) = broker.delayed(1)
        assert message.eta is not None
        assert abs(message.eta - datetime.now(UTC) - expected) < timedelta(seconds=10)
        assert decode_signature(message.body).eta == eta


def test_a_broker_without_delays_gets_none(backend: ObservedBackend) -> None:
    broker = ObservedBroker(max_delay=timedelta(0))
    Server(Config(), broker, backend).send_task(Signature("add", eta=datetime.now(UTC) + timedelta(days=1)))
    assert broker.pending(QUEUE, 1)[0].eta is None


def test_an_eta_that_is_past_is_now(server: Server, broker: ObservedBroker) -> None:
    server.send_task(Signature("add", eta=datetime.now(UTC) - timedelta(seconds=1)))
    assert broker.pending(QUEUE, 1)[0].eta is None


def test_a_priority_that_the_broker_has_not_is_refused_before_anything_is_stored(
    backend: ObservedBackend, journal: Journal
) -> None:
    server = Server(Config(), ObservedBroker(journal, priorities=False), backend)
    with pytest.raises(PriorityNotSupported, match="add asks for priority 3"):
        server.send_tasks([Signature("fine"), Signature("add", priority=3)])
    assert journal.entries == []


def test_what_harms_go_workers_is_refused_in_a_mixed_fleet(broker: ObservedBroker, journal: Journal) -> None:
    server = Server(Config(mixed_fleet=True), broker)
    harmful = Signature("harm", [{"a": 1}])
    for signature in (
        harmful,
        Signature("add", on_success=[harmful]),
        Signature("add", on_error=[Signature("x", on_error=[harmful])]),
    ):
        with pytest.raises(EncodeError, match="harm is dict, which travels as type 'json'"):
            server.send_task(signature)
    assert journal.entries == []
    server.send_task(Signature("add", [1, "x", [1]]))


def test_the_pre_publish_handler_may_change_what_is_sent(server: Server) -> None:
    server.set_pre_task_handler(lambda signature: signature.with_(headers={"traced": signature.name}))
    server.send_task(Signature("add"))
    assert server.pending_tasks()[0].headers == {"traced": "add"}
    server.set_pre_task_handler(lambda _: None)
    server.send_task(Signature("add"))
    assert len(server.pending_tasks()) == 2


def test_a_pre_publish_handler_that_raises_stops_the_call(server: Server, journal: Journal) -> None:
    def refuse(signature: Signature) -> None:
        raise PermissionError(signature.name)

    server.set_pre_task_handler(refuse)
    with pytest.raises(PermissionError, match="add"):
        server.send_task(Signature("add"))
    assert journal.entries == []


def test_a_backend_that_is_away_is_told_to_the_caller(server: Server, journal: Journal) -> None:
    journal.fail("submit", BackendUnavailable("away"))
    with pytest.raises(BackendUnavailable):
        server.send_task(Signature("add"))
    assert server.pending_tasks() == []


def test_a_refused_message_is_told_to_the_caller(server: Server, journal: Journal) -> None:
    journal.fail("publish", PublishError("too large", {1: PublishError("too large")}))
    with pytest.raises(PublishError) as caught:
        server.send_tasks([Signature("one"), Signature("two")])
    assert list(caught.value.failures) == [1]


def test_a_broker_that_is_one_service_with_the_backend_does_both_at_once(
    backend: ObservedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[tuple[int, int]] = []

    def both(self: ObservedBroker, backend: ObservedBackend) -> SubmitAndPublish:
        return lambda states, messages: batches.append((len(states), len(messages)))

    monkeypatch.setattr(ObservedBroker, "combined_with", both)
    server = Server(Config(), ObservedBroker(), backend)
    server.send_tasks([Signature("one"), Signature("two")])
    assert batches == [(2, 2)]


def test_asynchronous_twins_do_the_same(server: Server) -> None:
    @server.task
    def add(a: int, b: int) -> int:
        return a + b

    async def send() -> list[int]:
        results = [await add.asend(1, 2), await server.asend_task(add.signature(3, 4))]
        results += await server.asend_tasks([add.signature(5, 6)])
        return [await result.aget(timeout=10) for result in results]

    with server.new_worker("test", 1):
        assert asyncio.run(send()) == [3, 7, 11]


def test_the_queue_that_holds_nothing_back_gets_no_eta(
    backend: ObservedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = ObservedBroker()
    monkeypatch.setattr(broker, "has_delays", lambda queue: queue != "prompt")
    later = datetime.now(UTC) + timedelta(hours=1)
    with Server(Config(), broker, backend) as server:
        with pytest.raises(DelayTooLong, match="'prompt' holds nothing back"):
            server.send_task(Signature("add", eta=later, routing_key="prompt"))
        with pytest.raises(DelayTooLong):
            server.send_group(group(Signature("add", eta=later, routing_key="prompt")))
        assert server.pending_tasks("prompt") == []
        server.send_task(Signature("add", eta=later - timedelta(days=1), routing_key="prompt"))
        # What a worker sends on, such as a retry, has to wait with whoever receives it.
        server.sender.publish([Signature("add", uuid="task_again", eta=later, routing_key="prompt", headers={})])
        first, again = broker.pending("prompt", 10)
        assert first.eta is None
        assert again.eta is None
        assert decode_signature(again.body).eta == later
        server.send_task(Signature("add", eta=later))
        assert [message.eta for message in broker.delayed(10)] == [later]


def noting_dedup_ids() -> tuple[ObservedBroker, list[str]]:
    """A broker, and the deduplication ids of what it is given."""
    broker = ObservedBroker()
    sent: list[str] = []
    publish = broker.publish

    def noted(messages: Sequence[Message]) -> None:
        sent.extend(message.dedup_id for message in messages)
        publish(messages)

    broker.publish = noted  # type: ignore[method-assign]  # to see what it is given
    return broker, sent


def test_a_retrys_copy_does_not_pass_for_a_double_of_the_task(backend: ObservedBackend) -> None:
    broker, sent = noting_dedup_ids()
    with Server(Config(), broker, backend) as server:
        first = Signature("add", uuid="task_1", routing_key=QUEUE, headers={})
        server.sender.submit([first])
        server.sender.publish([first.with_(headers={"machinery_attempt": "2"})])
        server.sender.submit([first])  # as a worker does that is not sure
    assert sent == ["task_1", "task_1:2", "task_1"]


def test_what_an_application_sends_again_does_not_pass_for_a_double(backend: ObservedBackend) -> None:
    broker, sent = noting_dedup_ids()
    with Server(Config(), broker, backend) as server:
        for _ in range(2):
            server.send_task(Signature("add", uuid="task_1"))
            server.send_group(group(Signature("add", uuid="task_2"), Signature("add", uuid="task_3")))
    assert len(set(sent)) == 6
    assert {each.partition(":")[0] for each in sent} == {"task_1", "task_2", "task_3"}
