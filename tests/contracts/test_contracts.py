"""The contracts notice what they are there for: each of these brokers, backends and locks is broken in one way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from machinery import TaskState
from machinery.abc import Delivery, LockToken, Message
from machinery.memory import (
    MemoryBackend,
    MemoryBroker,
    MemoryConsumer,
    MemoryLock,
    MemoryLocks,
    MemoryQueues,
    MemoryRecords,
)
from machinery.testing import BackendContract, BrokerContract, LockContract, _expectations
from machinery.testing._broker import _suite


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What never comes need not be waited for as long as on a real service."""
    monkeypatch.setattr(_expectations, "PATIENCE", 3.0)
    monkeypatch.setattr(_suite, "PATIENCE", 1.0)


class LosesTheLast(MemoryBroker):
    def publish(self, messages: Sequence[Message]) -> None:
        super().publish(messages[:-1] if len(messages) > 1 else messages)


class Shuffles(MemoryBroker):
    def publish(self, messages: Sequence[Message]) -> None:
        super().publish(messages[::-1])


class IsEarly(MemoryBroker):
    def publish(self, messages: Sequence[Message]) -> None:
        super().publish([replace(message, eta=None) for message in messages])


class CountsHandingBack(MemoryConsumer):
    def nack(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        items = [self._loans[delivery.handle] for delivery in deliveries if delivery.handle in self._loans]
        lost = super().nack(deliveries)
        for item in items:
            item.attempt += 1
        return lost


class HandsBackToTheTail(MemoryConsumer):
    def nack(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        return self.postpone(deliveries, timedelta(0))


class NeverSaysLost(MemoryConsumer):
    def ack(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        super().ack(deliveries)
        return []


class ForgetsTheUnsettled(MemoryConsumer):
    def close(self) -> None:
        self._loans.clear()
        super().close()


class KeepsReceivingWhenStopped(MemoryConsumer):
    def stop(self) -> None:
        pass


class BuriesSilently(MemoryConsumer):
    def reject(self, deliveries: Sequence[Delivery], reason: str) -> list[Delivery]:
        return self.ack(deliveries)


def with_consumer(kind: type[MemoryConsumer]) -> type[MemoryBroker]:
    class Broken(MemoryBroker):
        def _new_consumer(self, queue: str) -> MemoryConsumer:
            return kind(self._queues.queue(queue), self._queues.clock)

    return Broken


class TheLastRecordWins(MemoryBackend):
    def save(self, states: Sequence[TaskState]) -> list[TaskState]:
        self.forget([state.task_uuid for state in states])
        return super().save(states)


class AnswersWithItsOwnOpinion(MemoryBackend):
    def save(self, states: Sequence[TaskState]) -> list[TaskState]:
        super().save(states)
        return list(states)


class KeepsTheFinalOnSubmit(MemoryBackend):
    def submit(self, states: Sequence[TaskState]) -> None:
        self.save(states)


class CountsTwice(MemoryBackend):
    def finish_members(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        return [count + (len(pairs) > 1) for count in super().finish_members(pairs)]


class EverybodyClaims(MemoryBackend):
    def claim_chord(self, group_uuid: str, claimant: str) -> bool:
        super().claim_chord(group_uuid, claimant)
        return True


class NeverExpires(MemoryBackend):
    def __init__(self, records: MemoryRecords, **config: Any) -> None:
        super().__init__(records, **{**config, "results_expire_in": timedelta(days=1)})


class SleepsThroughSaves(MemoryBackend):
    def wait(self, ids: Sequence[str], timeout: float, interval: float = 0.5) -> list[TaskState | None]:
        before = self.load(ids)
        return before if all(state and state.is_completed for state in before) else super().wait(["never"], 3)


class LetsEverybodyIn(MemoryLock):
    def try_acquire(self, key: str, until: datetime) -> LockToken | None:
        self._locks.held.clear()
        return super().try_acquire(key, until)


class LetsAnybodyRelease(MemoryLock):
    def release(self, token: LockToken) -> bool:
        return self._locks.held.pop(token.key, None) is not None


BROKEN_BROKERS: list[tuple[type[MemoryBroker], str]] = [
    (LosesTheLast, "test_a_batch_of_thousands_arrives_whole"),
    (Shuffles, "test_messages_of_a_queue_come_in_the_order_of_publishing"),
    (IsEarly, "test_a_delayed_message_comes_at_its_time_and_not_before"),
    (with_consumer(CountsHandingBack), "test_giving_back_is_no_attempt"),
    (with_consumer(HandsBackToTheTail), "test_what_was_given_back_comes_again_first"),
    (with_consumer(NeverSaysLost), "test_what_was_settled_is_ours_no_more"),
    (with_consumer(ForgetsTheUnsettled), "test_what_was_left_unsettled_comes_again_and_counts"),
    (with_consumer(KeepsReceivingWhenStopped), "test_a_stopped_consumer_receives_nothing_more"),
    (with_consumer(BuriesSilently), "test_what_was_given_up_is_a_dead_letter_with_its_reason"),
]

BROKEN_BACKENDS: list[tuple[type[MemoryBackend], str]] = [
    (TheLastRecordWins, "test_the_first_final_record_wins"),
    (TheLastRecordWins, "test_saving_keeps_the_name_and_the_time_of_sending"),
    (AnswersWithItsOwnOpinion, "test_exactly_one_of_many_writers_wins_and_all_are_told_who"),
    (KeepsTheFinalOnSubmit, "test_submitting_again_starts_afresh"),
    (CountsTwice, "test_finished_members_are_counted"),
    (EverybodyClaims, "test_exactly_one_claims_a_chord"),
    (NeverExpires, "test_a_record_goes_away_when_its_time_is_over"),
    (SleepsThroughSaves, "test_a_save_ends_the_waiting"),
]

BROKEN_LOCKS: list[tuple[type[MemoryLock], str]] = [
    (LetsEverybodyIn, "test_a_held_key_is_not_taken_again"),
    (LetsEverybodyIn, "test_acquiring_tries_as_often_as_told"),
    (LetsAnybodyRelease, "test_only_its_token_releases_a_key"),
]


@pytest.mark.parametrize(("kind", "test"), BROKEN_BROKERS)
def test_a_broken_broker_is_noticed(kind: type[MemoryBroker], test: str) -> None:
    queues = MemoryQueues()
    assert_noticed(BrokerContract(), test, lambda: kind(queues), "broker")


@pytest.mark.parametrize(("kind", "test"), BROKEN_BACKENDS)
def test_a_broken_backend_is_noticed(kind: type[MemoryBackend], test: str) -> None:
    records = MemoryRecords()
    assert_noticed(BackendContract(), test, lambda **config: kind(records, **config), "backend")


@pytest.mark.parametrize(("kind", "test"), BROKEN_LOCKS)
def test_a_broken_lock_is_noticed(kind: type[MemoryLock], test: str) -> None:
    locks = MemoryLocks()
    assert_noticed(LockContract(), test, lambda: kind(locks), "lock")


def assert_noticed(contract: object, test: str, make: Callable[..., Any], role: str) -> None:
    method = getattr(contract, test)
    names = method.__func__.__code__.co_varnames[1 : method.__func__.__code__.co_argcount]
    fixtures = {role: make, f"make_{role}": lambda: make}
    with pytest.raises((AssertionError, TimeoutError, ValueError)):
        method(**{name: fixtures[name]() for name in names})
