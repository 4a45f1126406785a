"""From a signature to the queue: complete it, store PENDING, publish. One path for applications and workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from machinery._headers import ATTEMPT, as_text
from machinery._signatures import Signature, check_texts, new_task_uuid, raw_signature
from machinery._states import GroupMeta, State, TaskState
from machinery.abc import Backend, Broker, Message
from machinery.errors import (
    DelayTooLong,
    EncodeError,
    GroupTooLarge,
    MachineryError,
    PriorityNotSupported,
    PublishError,
    Unavailable,
)
from machinery.wire import encode_signature

if TYPE_CHECKING:
    from machinery._config import Config

PrePublishHandler = Callable[[Signature], Signature | None]
"""Called with each signature just before it is published; may return a changed copy to be sent instead."""


class Sender:
    """Sends signatures through one broker and one backend. Safe from any thread."""

    def __init__(self, config: Config, broker: Broker, backend: Backend) -> None:
        self.config = config
        self.pre_publish: PrePublishHandler | None = None
        self._broker = broker
        self._backend = backend
        self._capabilities = broker.capabilities
        self._at_once = broker.combined_with(backend) or self._one_after_the_other

    def send(self, signatures: Sequence[Signature]) -> list[Signature]:
        """Store PENDING for all, then publish all, in one batch. Returns the signatures as sent (with their uuids).

        Raises `EncodeError`, `PriorityNotSupported` and `DelayTooLong` before anything is stored, the `Unavailable` family, and
        `PublishError` naming the positions that were not accepted; nothing else was lost.
        """
        for signature in signatures:
            if not isinstance(signature, Signature):
                raise EncodeError(
                    f"{signature!r} is no signature; make one with task.signature(…) or Signature(name, args)"
                )
        prepared = [self._prepare(signature) for signature in signatures]
        for signature in prepared:
            self._check(signature)
        if prepared:
            is_known = any(signature.uuid for signature in signatures)
            self.submit(prepared, _this_sending() if is_known else "")
        return prepared

    def send_group(self, members: Sequence[Signature], concurrency: int = 0) -> list[Signature]:
        """Store PENDING for all members and the group, then publish all, in at most ``concurrency`` parallel batches (0: one).

        Go's workers fail on a member without a record, and count by the records of all, so that none may be missing when the
        first member runs. Raises as `send`, `GroupTooLarge`, and `ResultsNotStored` for a chord that nobody could join; a group
        of which something was refused for good is closed, so that nothing waits for the rest.
        """
        prepared = [self._prepare(signature) for signature in members]
        for signature in prepared:
            self._check(signature)
        callback = prepared[0].chord_callback
        if callback is not None:
            self._check(callback)
        limit = self._backend.capabilities.largest_group
        if limit is not None and len(prepared) > limit:
            raise GroupTooLarge(
                f"a group of {len(prepared)} is too large: this result backend keeps at most {limit} members"
            )
        now, sending = datetime.now(UTC), _this_sending()
        messages = [self._to_message(signature, now, sending) for signature in prepared]
        group = GroupMeta(prepared[0].group_uuid, tuple([signature.uuid for signature in prepared]), created_at=now)
        # A group is never seen without its members' records: it would look as if these were lost.
        self._backend.submit(_pending(prepared, now))
        try:
            self._backend.create_group(group, callback and self._at_home(callback))
            self._publish_in_parallel(messages, concurrency)
        except Unavailable:
            raise  # then all may have been sent
        except MachineryError:
            self._backend.close_group(group.group_uuid)
            raise
        return prepared

    def _at_home(self, callback: Signature) -> Signature:
        """The callback as it is kept with the group: with its queue, as a worker of another one may end the chord."""
        queue = self.config.default_queue
        return callback.with_(
            routing_key=callback.routing_key or queue,
            on_error=tuple([each.with_(routing_key=each.routing_key or queue) for each in callback.on_error]),
        )

    def _publish_in_parallel(self, messages: Sequence[Message], concurrency: int) -> None:
        if concurrency <= 1:
            self._broker.publish(messages)
            return
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - only for what is sent side by side

        size = -(-len(messages) // concurrency)
        starts = range(0, len(messages), size)
        with ThreadPoolExecutor(len(starts), "machinery-send") as pool:
            sending = [pool.submit(self._broker.publish, messages[start : start + size]) for start in starts]
        errors = [(start, future.exception()) for start, future in zip(starts, sending, strict=True)]
        refused: dict[int, Exception] = {}
        for start, error in errors:
            if isinstance(error, PublishError):
                refused |= {start + at: reason for at, reason in error.failures.items()}
            elif error is not None:
                raise error
        if refused:
            first = next(error for _, error in errors if error is not None)
            raise PublishError(f"{len(refused)} of {len(messages)} messages were refused; the first: {first}", refused)

    def submit(self, prepared: Sequence[Signature], sending: str = "") -> None:
        """Store PENDING and publish signatures that are complete; for workers, who must pass on what Go accepted.

        ``sending`` tells them from the same tasks as they were sent before; a worker that is not sure sends doubles.
        """
        now = datetime.now(UTC)
        messages = [self._to_message(signature, now, sending) for signature in prepared]
        self._at_once(_pending(prepared, now), messages)

    def publish(self, prepared: Sequence[Signature]) -> None:
        """Publish only: a retry's copy, whose record stays RETRY until it is received."""
        now = datetime.now(UTC)
        self._broker.publish([self._to_message(signature, now) for signature in prepared])

    def complete(self, signature: Signature, queue: str = "") -> Signature:
        """The signature with all that the wire wants filled in (protocol §1.4, §1.5); the handler has its say."""
        return self._prepare(signature, queue)

    def _one_after_the_other(self, states: Sequence[TaskState], messages: Sequence[Message]) -> None:
        self._backend.submit(states)
        self._broker.publish(messages)

    def _prepare(self, signature: Signature, queue: str = "") -> Signature:
        s = signature
        made = raw_signature(
            s.name, s.args, s.uuid or new_task_uuid(), s.routing_key or queue or self.config.default_queue, s.eta,
            s.group_uuid, s.group_task_count, s.headers if s.headers is not None else {}, s.priority, s.immutable,
            s.retry_count, s.retry_timeout, s.on_success, s.on_error, s.chord_callback, s.broker_message_group_id,
            s.sqs_receipt_handle, s.stop_task_deletion_on_error, s.ignore_when_task_not_registered,
        )  # fmt: skip
        if self.pre_publish is not None:
            # Its own headers: it may write into them, and signatures that are read or copied share theirs.
            made = made.with_(headers=dict(made.headers or {}))
            made = self.pre_publish(made) or made
            if not isinstance(made, Signature):
                raise EncodeError(f"the pre-task handler returned {made!r}, neither a signature nor None")
        return made

    def _check(self, signature: Signature) -> None:
        s = signature
        check_texts(s.name, s.uuid, s.routing_key, s.group_uuid, s.broker_message_group_id, s.sqs_receipt_handle)
        if signature.priority and not self._capabilities.priorities:
            raise PriorityNotSupported(
                f"{signature.name} asks for priority {signature.priority}, and this broker has no priorities; "
                "leave the priority out, or use one queue for each level of urgency"
            )
        if signature.eta is not None and signature.eta > datetime.now(UTC):
            queue = signature.routing_key or self.config.default_queue
            if not self._broker.has_delays(queue):
                raise DelayTooLong(
                    f"{signature.name} is not to start before {signature.eta.isoformat()}, and the queue {queue!r} holds nothing "
                    "back; leave eta and countdown out, or use another queue"
                )
        if self.config.mixed_fleet:
            _refuse_what_harms_go(signature)

    def _to_message(self, signature: Signature, now: datetime, sending: str = "") -> Message:
        eta = signature.eta
        if eta is not None:
            longest = self._capabilities.max_delay
            if eta <= now or longest == timedelta(0) or not self._broker.has_delays(signature.routing_key):
                eta = None
            elif longest is not None:
                eta = min(eta, now + longest)
        queue, body = self._addressed(signature)
        if self._capabilities.headers_are_text:
            body = _with_text_headers(body)
        return Message(
            encode_signature(body), queue, eta, signature.priority, signature.broker_message_group_id,
            _dedup_id(signature) + sending, body.headers,
        )  # fmt: skip

    def _addressed(self, signature: Signature) -> tuple[str, Signature]:
        """The queue, and the signature with what Go writes for it (protocol §1.5)."""
        queue, key = signature.routing_key, self._capabilities.default_routing_key
        if not self._capabilities.routing_key_in_body:
            return queue, signature.with_(routing_key="")
        if key and queue in (self.config.default_queue, key):
            return self.config.default_queue, signature if queue == key else signature.with_(routing_key=key)
        return queue, signature


def _dedup_id(signature: Signature) -> str:
    """Go's is the uuid alone, so that a service which drops doubles drops each retry that comes soon (protocol §5.1)."""
    attempt = signature.headers.get(ATTEMPT) if signature.headers else None
    return f"{signature.uuid}:{attempt}" if attempt else signature.uuid


def _this_sending() -> str:
    """For deduplication ids: what an application sends again under its own uuid is to run again, and no double."""
    return f":{uuid4().hex}"


def _pending(prepared: Sequence[Signature], now: datetime) -> list[TaskState]:
    return [TaskState(signature.uuid, signature.name, State.PENDING, None, "", now) for signature in prepared]


def _refuse_what_harms_go(signature: Signature) -> None:
    for arg in signature.args:
        if arg.type == "json":
            raise EncodeError(
                f"an argument of {signature.name} is {type(arg.value).__name__}, which travels as type 'json'; Go workers cannot "
                "read that, and with mixed_fleet it is refused (send a string, or lists of one scalar type)"
            )
    for nested in (*signature.on_success, *signature.on_error, signature.chord_callback):
        if nested is not None:
            _refuse_what_harms_go(nested)


def _with_text_headers(signature: Signature) -> Signature:
    """The signature, and all that follows it, with headers that Go's AMQP broker can publish (protocol §10, 14)."""
    s = signature
    if not (s.headers or s.on_success or s.on_error or s.chord_callback):
        return s
    changes: dict[str, Any] = {}
    if s.headers and not all(isinstance(value, str | bool) for value in s.headers.values()):
        changes["headers"] = as_text(s.headers)
    for field in ("on_success", "on_error"):
        nested = getattr(s, field)
        plain = tuple(map(_with_text_headers, nested))
        if any(one is not other for one, other in zip(nested, plain, strict=True)):
            changes[field] = plain
    if s.chord_callback is not None and (callback := _with_text_headers(s.chord_callback)) is not s.chord_callback:
        changes["chord_callback"] = callback
    return s.with_(**changes) if changes else s
