"""The contracts notice what they are there for: each of these brokers, backends and locks is broken in one way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest

from machinery import TaskState
from machinery.abc import Delivery, LockToken, Message
from machinery.errors import LockNotAcquired
from machinery.memory import (
    MemoryBackend,
    MemoryBroker,
    MemoryConsumer,
    MemoryLock,
    MemoryLocks,
    MemoryQueues,
    MemoryRecords,
)
from machinery.memory._lock import Held
from machinery.testing import BackendContract, BrokerContract, LockContract, _expectations
from machinery.testing._broker import _suite
from tests.contracts.skewed import SkewedClock


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


class TakesWhatItFoundForItsOwn(MemoryBackend):
    def save(self, states: Sequence[TaskState]) -> list[TaskState]:
        return [replace(state, was_final=False) for state in super().save(states)]


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


class NeverRenews(MemoryBackend):
    def save(self, states: Sequence[TaskState]) -> list[TaskState]:
        before = {uuid: record.expires for uuid, record in self._store._records.items()}
        stored = super().save(states)
        for uuid, expires in before.items():
            if uuid in self._store._records:
                self._store._records[uuid].expires = expires
        return stored


class SleepsThroughSaves(MemoryBackend):
    def __init__(self, *arguments: Any, **config: Any) -> None:
        super().__init__(*arguments, **config)
        self._asleep = threading.Event()

    def save(self, states: Sequence[TaskState]) -> list[TaskState]:
        self._asleep.wait(10)  # else there would be nothing to sleep through
        return super().save(states)

    def wait(self, ids: Sequence[str], timeout: float, interval: float = 0.5) -> list[TaskState | None]:
        before = self.load(ids)
        self._asleep.set()
        return before if all(state and state.is_completed for state in before) else super().wait(["never"], 3)


class LetsEverybodyIn(MemoryLock):
    def try_acquire(self, key: str, until: datetime) -> LockToken | None:
        self._locks.held.clear()
        return super().try_acquire(key, until)


class LetsAnybodyRelease(MemoryLock):
    def release(self, token: LockToken) -> bool:
        kept = self._locks.holds if token.fence else self._locks.held
        return kept.pop(token.key, None) is not None


class LetsGoOfWhatRanOut(MemoryLock):
    given: ClassVar[set[str]] = set()

    def _take(self, kept: dict[str, Held], key: str, wanted: Held) -> bool:
        self.given.add(wanted.value)
        return super()._take(kept, key, wanted)

    def release(self, token: LockToken) -> bool:
        return super().release(token) or token.value in self.given


class AcquiresByNobodysClock(MemoryLock):
    def try_acquire(self, key: str, until: datetime) -> LockToken | None:
        return super().try_acquire(key, datetime.now(UTC) + timedelta(days=1))


class LooksBeforeItHolds(MemoryLock):
    def try_hold(self, key: str, ttl: timedelta | float) -> LockToken | None:
        held = self._locks.holds.get(key)
        if held is not None and held.until > self._locks.clock.now():
            return None
        threading.Event().wait(0.02)  # what another does meanwhile goes unseen
        self._locks.holds.pop(key, None)
        return super().try_hold(key, ttl)


class HoldsForLong(MemoryLock):
    def try_hold(self, key: str, ttl: timedelta | float) -> LockToken | None:
        return super().try_hold(key, LockToken.to_hold(key, ttl, datetime.now(UTC))[1] + timedelta(minutes=1))


class HoldsByItsOwnClock(MemoryLock):
    def try_hold(self, key: str, ttl: timedelta | float) -> LockToken | None:
        token, _ = LockToken.to_hold(key, ttl, self._clock.now())
        with self._locks.guard:
            held = self._locks.holds.get(key)
            if held is not None and held.until > self._clock.now():
                return None
            self._locks.holds[key] = Held(token.value, token.until)
            return replace(token, fence=self._next_fence())


class RepeatsItsFence(MemoryLock):
    def _next_fence(self) -> int:
        return 1


class CountsFencesByItself(MemoryLock):
    last = 0

    def _next_fence(self) -> int:
        self.last += 1
        return self.last


class GivesTheFenceAfterwards(MemoryLock):
    def try_hold(self, key: str, ttl: timedelta | float) -> LockToken | None:
        fence = self._next_fence()  # before it is known who will hold
        threading.Event().wait(0.005 * (fence % 2))
        token = super().try_hold(key, ttl)
        return token and replace(token, fence=fence)


class ForgetsWhoseItIs(MemoryLock):
    def try_hold(self, key: str, ttl: timedelta | float) -> LockToken | None:
        token = super().try_hold(key, ttl)
        if token is None:
            return None
        self._locks.holds[key] = replace(self._locks.holds[key], value="held")
        return replace(token, value="held")


class RenewsWhatIsLost(MemoryLock):
    def renew(self, token: LockToken, ttl: timedelta | float) -> LockToken | None:
        renewed, _ = token.to_renew(ttl, self._clock.now())
        self._locks.holds[token.key] = Held(token.value, renewed.until)
        return renewed


class NeverShortens(MemoryLock):
    def renew(self, token: LockToken, ttl: timedelta | float) -> LockToken | None:
        _, span = token.to_renew(ttl, self._clock.now())
        return super().renew(token, max(span, token.until - self._clock.now()))


class MixesTheKinds(MemoryLock):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._locks.holds = self._locks.held


class KnowsNoCase(MemoryLock):
    def try_hold(self, key: str, ttl: timedelta | float) -> LockToken | None:
        return super().try_hold(key.lower(), ttl)


class NeverSaysThatItWasLost(MemoryLock):
    def release(self, token: LockToken) -> bool:
        super().release(token)
        return True


class TakesAnySpan(MemoryLock):
    def try_hold(self, key: str, ttl: timedelta | float) -> LockToken | None:
        try:
            return super().try_hold(key, ttl)
        except ValueError:
            return super().try_hold(key, 1)


class HoldsWhenClosed(MemoryLock):
    def _check_open(self) -> None:
        pass


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
    (TakesWhatItFoundForItsOwn, "test_a_final_record_that_was_there_is_told_from_one_that_says_the_same"),
    (TheLastRecordWins, "test_the_first_final_record_wins"),
    (TheLastRecordWins, "test_saving_keeps_the_name_and_the_time_of_sending"),
    (AnswersWithItsOwnOpinion, "test_exactly_one_of_many_writers_wins_and_all_are_told_who"),
    (KeepsTheFinalOnSubmit, "test_submitting_again_starts_afresh"),
    (CountsTwice, "test_finished_members_are_counted"),
    (EverybodyClaims, "test_exactly_one_claims_a_chord"),
    (NeverExpires, "test_a_record_goes_away_when_its_time_is_over"),
    (NeverRenews, "test_every_write_renews_a_records_time"),
    (SleepsThroughSaves, "test_a_save_ends_the_waiting"),
]

BROKEN_LOCKS: list[tuple[type[MemoryLock], str]] = [
    (LetsEverybodyIn, "test_a_held_key_is_not_taken_again"),
    (LetsEverybodyIn, "test_acquiring_tries_as_often_as_told"),
    (LetsAnybodyRelease, "test_only_its_token_releases_a_key"),
    (LetsAnybodyRelease, "test_only_its_holder_lets_go"),
    (LetsAnybodyRelease, "test_whoever_comes_late_lets_go_of_nothing"),
    (LetsGoOfWhatRanOut, "test_what_ran_out_cannot_be_let_go_even_if_nobody_holds_it"),
    (LetsAnybodyRelease, "test_a_block_that_took_too_long_is_told"),
    (AcquiresByNobodysClock, "test_an_instant_that_has_passed_holds_nobody_off"),
    (LooksBeforeItHolds, "test_exactly_one_of_many_holds_a_key"),
    (LooksBeforeItHolds, "test_exactly_one_of_many_follows_one_that_ran_out"),
    (HoldsForLong, "test_a_hold_is_over_when_its_ttl_is"),
    (HoldsForLong, "test_the_wait_outlasts_a_holder_that_died"),
    (HoldsByItsOwnClock, "test_a_hold_lasts_its_ttl_whatever_the_holders_clock_says"),
    (HoldsByItsOwnClock, "test_a_hold_lasts_its_ttl_whatever_the_clock_of_those_who_wait_says"),
    (RepeatsItsFence, "test_each_holder_has_a_greater_fence_than_the_one_before"),
    (RepeatsItsFence, "test_a_fence_is_greater_than_that_of_a_holder_whose_ttl_ran_out"),
    (RepeatsItsFence, "test_fences_grow_whatever_the_holders_clocks_say"),
    (CountsFencesByItself, "test_each_holder_has_a_greater_fence_than_the_one_before"),
    (GivesTheFenceAfterwards, "test_fences_grow_in_the_order_of_holding"),
    (ForgetsWhoseItIs, "test_two_tokens_are_never_the_same"),
    (ForgetsWhoseItIs, "test_whoever_comes_late_lets_go_of_nothing"),
    (RenewsWhatIsLost, "test_what_another_holds_by_now_is_not_renewed"),
    (RenewsWhatIsLost, "test_what_ran_out_is_not_renewed_even_if_nobody_holds_it"),
    (RenewsWhatIsLost, "test_what_was_let_go_is_not_renewed"),
    (NeverShortens, "test_a_renewal_counts_from_now_even_if_that_is_less"),
    (MixesTheKinds, "test_a_key_that_is_held_and_one_that_is_acquired_do_not_meet"),
    (KnowsNoCase, "test_keys_that_differ_at_all_do_not_hinder_each_other"),
    (NeverSaysThatItWasLost, "test_a_block_that_took_too_long_is_told"),
    (TakesAnySpan, "test_what_is_no_ttl_is_refused"),
    (HoldsWhenClosed, "test_a_closed_lock_says_so"),
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

    def make(ahead: timedelta = timedelta(0)) -> MemoryLock:
        return kind(locks, SkewedClock(ahead))

    assert_noticed(LockContract(), test, make, "lock")


def assert_noticed(contract: object, test: str, make: Callable[..., Any], role: str) -> None:
    method = getattr(contract, test)
    names = method.__func__.__code__.co_varnames[1 : method.__func__.__code__.co_argcount]
    fixtures: dict[str, Callable[[], Any]] = {role: make, f"make_{role}": lambda: make, f"skewed_{role}": lambda: make}
    with pytest.raises((AssertionError, TimeoutError, ValueError, LockNotAcquired)):
        method(**{name: fixtures[name]() for name in names})
