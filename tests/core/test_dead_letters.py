"""Dead letters, seen from the server: listed with their reasons, and sent again."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from machinery import Reject, Server, State, TaskFailed
from machinery.abc import DeadLetter, Message


@pytest.fixture
def server() -> Iterator[Server]:
    with Server.from_url("memory://") as made:
        yield made


def letters(server: Server, count: int) -> list[DeadLetter]:
    deadline = time.monotonic() + 5
    while len(found := server.dead_tasks()) < count and time.monotonic() < deadline:
        time.sleep(0.005)
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
            result.get(timeout=5)
        letters(server, 1)
        is_mended = True
        assert server.requeue_dead_tasks() == 1

        deadline = time.monotonic() + 5
        while result.state is not State.SUCCESS and time.monotonic() < deadline:
            time.sleep(0.005)
        assert result.get(timeout=5) == "fine"


def test_only_the_letters_named_are_sent_again(server: Server) -> None:
    server.broker.publish([Message(b"not a signature", server.config.default_queue) for _ in range(3)])
    with server.new_worker("test", 1):
        first, *_ = letters(server, 3)

    assert server.requeue_dead_tasks(ids=["no such letter"]) == 0
    assert server.requeue_dead_tasks(ids=[first.id]) == 1
    assert first.id not in {letter.id for letter in server.dead_tasks()}
    assert len(server.dead_tasks()) == 2
