"""Storing PENDING and publishing in one round trip, where broker and result backend are the same Redis.

This is the way of every task that is sent, one by one above all: two round trips would halve the speed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.exceptions import NoScriptError

from machinery.errors import Unavailable
from machinery.wire import encode_state
from machinery_broker_redis._connections import Evaluation, pack_one
from machinery_broker_redis._publishing import LARGEST_MESSAGE, raise_refused, to_groups
from machinery_broker_redis._scripts import script

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from machinery.abc import Message, TaskState
    from machinery_broker_redis._client import Client
    from machinery_broker_redis._publishing import Group

CHUNK = 200
"""Tasks in one call of the script, which holds up everybody else for about a millisecond. It runs while the next is made."""


class SubmitAndPublish:
    """Stores records, then publishes messages, each chunk at once: no message is visible without its record."""

    def __init__(self, client: Client, lifetime: int) -> None:
        self._client = client
        self._lifetime = lifetime
        """Milliseconds that a record lives."""
        self._one = script("submit_one").sha

    def __call__(self, states: Sequence[TaskState], messages: Sequence[Message]) -> None:
        """Record ``i`` belongs to message ``i``. Raises what `Broker.publish` raises."""
        if len(messages) == 1 == len(states):
            message = messages[0]
            if message.eta is None and len(message.body) <= LARGEST_MESSAGE:
                return self._submit_one(states[0], message)
        return self._submit(states, messages)

    def _submit_one(self, state: TaskState, message: Message) -> None:
        record = encode_state(state)
        packed = pack_one(
            ("EVALSHA", self._one, 2, state.task_uuid, message.queue, self._lifetime, record, message.body)
        )
        reply = self._client.send_packed(packed)
        if isinstance(reply, NoScriptError):
            reply = self._client.send([
                Evaluation(
                    script("submit_one"), (state.task_uuid, message.queue), (self._lifetime, record, message.body)
                )
            ])[0]  # fmt: skip
        if isinstance(reply, Exception):
            self._submit([state], [message])  # refused: this way finds out what was

    def _submit(self, states: Sequence[TaskState], messages: Sequence[Message]) -> None:
        refused: dict[int, Exception] = {}
        sent: list[tuple[int, Sequence[Group]]] = []

        def in_turn() -> Iterator[Evaluation]:
            for start in range(0, len(messages), CHUNK):
                groups, unfit = to_groups(messages[start : start + CHUNK], self._client.options.delayed_tasks_key)
                refused.update({start + at: reason for at, reason in unfit.items()})
                some = states[start : start + CHUNK]
                if unfit:
                    some = [state for at, state in enumerate(some) if at not in unfit]
                if some:
                    sent.append((start, groups))
                    yield self._evaluation(some, groups)

        for (start, groups), reply in zip(sent, self._client.send_in_turn(in_turn()), strict=True):
            # A script whose reply is an error has written nothing.
            answers = [reply] * len(groups) if isinstance(reply, Exception) else reply
            for group, answer in zip(groups, answers, strict=True):
                if isinstance(answer, Exception):
                    error = self._client.translated(answer)
                    refused |= {start + at: error for at in group.positions}
        if len(refused) == len(messages) and all(isinstance(reason, Unavailable) for reason in refused.values()):
            raise refused[0]
        raise_refused(refused, len(messages))

    def _evaluation(self, states: Sequence[TaskState], groups: Sequence[Group]) -> Evaluation:
        keys = (*[state.task_uuid for state in states], *[group.key for group in groups])
        arguments: list[Any] = [self._lifetime, len(states), *[encode_state(state) for state in states]]
        for group in groups:
            arguments.append(-len(group.positions) if group.is_delayed else len(group.positions))
            arguments += group.members
        return Evaluation(script("submit"), keys, tuple(arguments))
