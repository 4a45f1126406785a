"""A message that was handed back after its record was saved sends what follows when it comes again."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from machinery import Server, Signature, chord
from machinery._worker import _fetcher


@pytest.mark.parametrize("chorded", [False, True], ids=["task", "chord"])
@pytest.mark.parametrize("kind", ["memory", "redis"])
def test_what_could_not_be_sent_at_first_is_sent_when_the_message_comes_again(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, kind: str, *, chorded: bool
) -> None:
    """Redis does not say that such a message is delivered again, and by its record the task has ended."""
    monkeypatch.setattr(_fetcher, "LATER", timedelta(milliseconds=20))
    ran = threading.Event()
    failures = [ValueError("a defect of the application's")]

    def fail_once(signature: Signature) -> None:
        if signature.name == "second" and failures:
            raise failures.pop()

    url = "memory://" if kind == "memory" else request.getfixturevalue("redis_database")
    with Server.from_url(url) as server:
        server.register_task("first", lambda: None)
        server.register_task("second", ran.set)
        if chorded:
            server.send_chord(chord([Signature("first")], Signature("second")))
        else:
            server.send_task(Signature("first", on_success=[Signature("second")]))
        server.set_pre_task_handler(fail_once)
        with server.new_worker("handed-back", 2):
            assert ran.wait(15)
    assert failures == []
