"""Where things lie in Redis: Go's names, and ours beside them in the same cluster slot."""

from __future__ import annotations

import pytest
from redis.crc import key_slot

from machinery_broker_redis._keys import group_keys, has_own_slot, moving_key, queue_keys, record_channel


@pytest.mark.parametrize("queue", ["machinery_tasks", "{mine}", "a{b}c", "{a}{b}", "q:1", "späte"])
def test_everything_of_a_queue_lies_in_its_slot(queue: str) -> None:
    keys = queue_keys(queue)
    names = [keys.queue, keys.workers, keys.sequence, keys.attempts, keys.postponed, keys.dead, keys.dead_bodies]
    names += [keys.dead_reasons, keys.inflight("me"), keys.taken("me"), keys.inflight("{odd}"), moving_key(queue)]

    assert has_own_slot(queue)
    assert len({key_slot(name.encode()) for name in names}) == 1
    assert len(set(names)) == len(names)


def test_everything_of_a_group_lies_in_its_slot() -> None:
    keys = group_keys("group_1")

    assert keys.meta == "group_1"
    assert len({key_slot(name.encode()) for name in (keys.meta, keys.ours, keys.finished, keys.claimant)}) == 1


def test_queues_that_share_a_hash_tag_keep_their_keys_apart() -> None:
    assert queue_keys("a{t}").workers != queue_keys("b{t}").workers


@pytest.mark.parametrize("queue", ["a}b", "a{}b", "{", "a{b"])
def test_braces_that_are_no_hash_tag_have_no_slot_of_their_own(queue: str) -> None:
    assert not has_own_slot(queue)


def test_channels_say_which_database() -> None:
    assert record_channel(0, "task_1") != record_channel(1, "task_1")
