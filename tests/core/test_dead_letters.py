"""Dead letters, seen from the server: listed with their reasons, and sent again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NoReturn

import pytest

from machinery import Reject, Server, Signature, State, TaskFailed
from machinery.abc import DeadLetter, Message, TaskState
from machinery.errors import ConfigError
from machinery.memory import MemoryConsumer
from tests.interop.eventually import eventually


@pytest.fixture
def server() -> Iterator[Server]:
    with Server.from_url("memory://") as made:
        yield made


def letters(server: Server, count: int) -> list[DeadLetter]:
    eventually(lambda: len(server.dead_tasks()) >= count)
    found = server.dead_tasks()
    assert len(found) == count
    return found


def test_a_task_sent_again_ends_with_what_comes_of_the_new_run(server: Server) -> None:
    is_mended = False

    @server.task
    def job() -> str:
        if not is_mended:
            raise Reject("bad data")
        return "fine"

    with server.new_worker("test", 1):
        result = job.send()
        with pytest.raises(TaskFailed, match="bad data"):
            result.get(timeout=15)
        letters(server, 1)
        is_mended = True
        assert server.requeue_dead_tasks() == 1

        eventually(lambda: result.state is State.SUCCESS)
        assert result.get(timeout=15) == "fine"


def test_only_the_letters_named_are_sent_again(server: Server) -> None:
    server.broker.publish([Message(b"not a signature", server.config.default_queue) for _ in range(3)])
    with server.new_worker("test", 1):
        first, *_ = letters(server, 3)

    assert server.requeue_dead_tasks(ids=["no such letter"]) == 0
    assert server.requeue_dead_tasks(ids=[first.id]) == 1
    assert first.id not in {letter.id for letter in server.dead_tasks()}
    assert len(server.dead_tasks()) == 2


def test_a_failed_task_whose_message_is_to_stay_is_a_dead_letter_once(server: Server) -> None:
    @server.task(stop_task_deletion_on_error=True)
    def job() -> None:
        raise ValueError("kaputt")

    with server.new_worker("test", 1):
        result = job.send()
        with pytest.raises(TaskFailed, match="kaputt"):
            result.get(timeout=15)
        (letter,) = letters(server, 1)
    assert letter.reason == "kaputt"


def test_a_worker_that_finds_such_a_task_failed_makes_it_a_dead_letter_too(server: Server) -> None:
    server.register_task("job", lambda: None)
    marked = Signature("job", uuid="task_1", stop_task_deletion_on_error=True)
    server.send_task(marked)
    with contextlib.closing(server.broker.consumer(server.config.default_queue, "died@here:1:0")) as consumer:
        assert consumer.receive(1, 5)  # and then it died, having stored what came of it
        server.backend.save([TaskState("task_1", "job", State.FAILURE, None, "kaputt")])
    with server.new_worker("test", 1):
        (letter,) = letters(server, 1)
    assert letter.reason == "kaputt"


def test_what_cannot_be_put_away_stays_and_holds_up_nobody(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> NoReturn:
        raise ConfigError("the place for dead letters is not there")

    monkeypatch.setattr(MemoryConsumer, "reject", refuse)
    server.register_task("job", lambda: "fine")
    queue = server.config.default_queue
    server.broker.publish([Message(b"not a signature", queue)])
    with server.new_worker("test", 1):
        for _ in range(3):
            assert server.send_task(Signature("job")).get(timeout=15) == "fine"
    (left,) = [*server.broker.pending(queue, 10), *server.broker.delayed(10)]
    assert left.body == b"not a signature"
