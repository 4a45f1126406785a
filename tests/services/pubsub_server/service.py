"""The gRPC side: a method for each call, and whoever waits for messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import grpc
from google.protobuf import any_pb2, empty_pb2
from google.pubsub_v1 import types
from google.rpc import error_details_pb2, status_pb2

from tests.services.pubsub_server.project import LONGEST_LEASE, Project, Refusal, not_found, refuse_unless
from tests.services.pubsub_server.subscription import Subscription, Taker

StreamingPullResponse = types.StreamingPullResponse.pb()
PACKAGE = "google.pubsub.v1"
SHORTEST_LEASE = 1
"""Seconds on a stream, so that tests need not wait for the ten that the service wants."""
LONGEST_PULL = 5.0
"""Seconds that a Pull waits when its caller sets no deadline that is sooner."""
IN_TIME = 0.2
"""Seconds before that deadline at which it answers."""
RESPONSE_BYTES = 1_000_000
"""What one response holds, unless one message is larger."""


class Service:
    """Answers for one project's state, on one event loop."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._news: dict[Taker, asyncio.Event] = {}
        """Of everybody who waits for messages."""
        self._pulls: dict[str, list[Taker]] = {}
        self._alarms: dict[str, asyncio.TimerHandle] = {}

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """What a server is to be given."""
        publisher = {
            "CreateTopic": _unary(types.Topic, types.Topic, self._project.create_topic),
            "GetTopic": _unary(types.GetTopicRequest, types.Topic, lambda it: self._project.topic(it.topic)),
            "DeleteTopic": _unary(types.DeleteTopicRequest, None, lambda it: self._project.delete_topic(it.topic)),
            "Publish": _unary(types.PublishRequest, types.PublishResponse, self._publish),
        }
        subscriber = {
            "CreateSubscription": _unary(types.Subscription, types.Subscription, self._project.create_subscription),
            "GetSubscription": _unary(
                types.GetSubscriptionRequest,
                types.Subscription,
                lambda it: self._project.subscription(it.subscription).config,
            ),
            "UpdateSubscription": _unary(
                types.UpdateSubscriptionRequest,
                types.Subscription,
                lambda it: self._project.update_subscription(it.subscription, list(it.update_mask.paths)),
            ),
            "DeleteSubscription": _unary(types.DeleteSubscriptionRequest, None, self._delete_subscription),
            "Acknowledge": _unary(types.AcknowledgeRequest, None, self._acknowledge),
            "ModifyAckDeadline": _unary(types.ModifyAckDeadlineRequest, None, self._modify),
            "Seek": _unary(types.SeekRequest, types.SeekResponse, self._seek),
            "Pull": _unary(types.PullRequest, types.PullResponse, self._pull),
            "StreamingPull": grpc.stream_stream_rpc_method_handler(
                self._streaming_pull,
                types.StreamingPullRequest.pb().FromString,
                StreamingPullResponse.SerializeToString,
            ),
        }
        return [
            grpc.method_handlers_generic_handler(f"{PACKAGE}.Publisher", publisher),
            grpc.method_handlers_generic_handler(f"{PACKAGE}.Subscriber", subscriber),
        ]

    # -- calls that are answered at once ------------------------------------------------------------------------------------

    def _publish(self, request: Any) -> Any:
        ids = self._project.publish(request.topic, request.messages)
        for name, subscription in self._project.subscriptions.items():
            if subscription.config.topic == request.topic:
                self._spread(name)
        return types.PublishResponse.pb()(message_ids=ids)

    def _acknowledge(self, request: Any) -> None:
        try:
            self._project.acknowledge(request.subscription, request.ack_ids)
        finally:
            self._spread(request.subscription)

    def _modify(self, request: Any) -> None:
        try:
            self._project.modify(request.subscription, request.ack_ids, request.ack_deadline_seconds)
        finally:
            self._spread(request.subscription)

    def _seek(self, request: Any) -> Any:
        subscription = self._project.subscription(request.subscription)
        refuse_unless(request.HasField("time"), "this server has no snapshots")
        subscription.forget(request.time.ToNanoseconds() / 1e9)
        self._spread(request.subscription)
        return types.SeekResponse.pb()()

    def _delete_subscription(self, request: Any) -> None:
        for taker in self._project.delete_subscription(request.subscription).streams:
            self._news[taker].set()

    # -- those who wait for messages ----------------------------------------------------------------------------------------

    async def _pull(self, request: Any, context: Any) -> Any:
        subscription = self._project.subscription(request.subscription)
        refuse_unless(request.max_messages > 0, "max_messages must be positive")
        taker = Taker(subscription.config.ack_deadline_seconds, request.max_messages)
        subscription.pass_time(self._project.now())
        subscription.lend([taker], self._project.now())
        self._set_alarm(request.subscription, subscription)
        if not taker.outbox and not request.return_immediately:
            remaining = context.time_remaining()
            waiting = self._pulls.setdefault(request.subscription, [])
            waiting.append(taker)
            news = self._news[taker] = asyncio.Event()
            try:
                with suppress(TimeoutError):
                    await asyncio.wait_for(
                        news.wait(), max(0, min(LONGEST_PULL, (remaining or LONGEST_PULL) - IN_TIME))
                    )
            finally:
                waiting.remove(taker)
                del self._news[taker]
        return types.PullResponse.pb()(received_messages=taker.outbox)

    async def _streaming_pull(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        first = await anext(requests)
        try:
            subscription = self._project.subscription(first.subscription)
            taker = _taker(first)
        except Refusal as refusal:
            await _abort(context, refusal)
            return
        news = self._news[taker] = asyncio.Event()
        subscription.streams.append(taker)
        listening = asyncio.ensure_future(_listen(requests, taker, news))
        try:
            self._spread(first.subscription)
            while not (listening.done() and not taker.outbox):
                await news.wait()
                news.clear()
                if self._project.subscriptions.get(first.subscription) is not subscription:
                    await _abort(context, not_found(first.subscription))
                while taker.outbox:
                    yield _response(subscription, taker)
        finally:
            listening.cancel()
            subscription.streams.remove(taker)
            del self._news[taker]

    def _spread(self, name: str) -> None:
        """Give what is ready to those who wait, and wake them."""
        subscription = self._project.subscriptions.get(name)
        if subscription is None:
            return
        now = self._project.now()
        subscription.pass_time(now)
        takers = [*subscription.streams, *self._pulls.get(name, ())]
        subscription.lend(takers, now)
        for taker in takers:
            if taker.outbox:
                self._news[taker].set()
        self._set_alarm(name, subscription)

    def _set_alarm(self, name: str, subscription: Subscription) -> None:
        """Look again when a lease runs out, or something has backed off."""
        at = subscription.changes_at()
        alarm = self._alarms.get(name)
        if at is None or (alarm is not None and not alarm.cancelled() and self._project.now() < alarm.when() <= at):
            return
        if alarm is not None:
            alarm.cancel()
        self._alarms[name] = asyncio.get_running_loop().call_at(at, self._spread, name)


def _taker(request: Any) -> Taker:
    seconds = request.stream_ack_deadline_seconds
    refuse_unless(SHORTEST_LEASE <= seconds <= LONGEST_LEASE, f"a stream's ack deadline of {seconds} s")
    return Taker(
        seconds,
        request.max_outstanding_messages if request.max_outstanding_messages > 0 else float("inf"),
        request.max_outstanding_bytes if request.max_outstanding_bytes > 0 else float("inf"),
    )


async def _listen(requests: AsyncIterator[Any], taker: Taker, news: asyncio.Event) -> None:
    """Take a new lease; the rest of what may be said on an open stream is nothing that anybody says."""
    try:
        async for request in requests:
            if request.stream_ack_deadline_seconds:
                taker.lease = request.stream_ack_deadline_seconds
    finally:
        taker.limit = 0
        asyncio.get_running_loop().call_soon(news.set)


def _response(subscription: Subscription, taker: Taker) -> Any:
    """The next part of what the taker was given."""
    response = StreamingPullResponse()
    size = 0
    while taker.outbox and size < RESPONSE_BYTES:
        size += len(taker.outbox[0].message.data)
        response.received_messages.append(taker.outbox.pop(0))
    properties = response.subscription_properties
    properties.exactly_once_delivery_enabled = subscription.config.enable_exactly_once_delivery
    properties.message_ordering_enabled = subscription.config.enable_message_ordering
    return response


def _unary(asked: Any, answered: Any, answer: Callable[..., Any]) -> grpc.RpcMethodHandler:
    is_waiting = asyncio.iscoroutinefunction(answer)

    async def call(request: Any, context: Any) -> Any:
        try:
            response = await answer(request, context) if is_waiting else answer(request)
        except Refusal as refusal:
            await _abort(context, refusal)
        else:
            return empty_pb2.Empty() if answered is None else response

    result = empty_pb2.Empty if answered is None else answered.pb()
    return grpc.unary_unary_rpc_method_handler(call, asked.pb().FromString, result.SerializeToString)


async def _abort(context: Any, refusal: Refusal) -> None:
    """End the call; which acknowledgement ids were to blame goes with it as the service would say it."""
    trailing: tuple[tuple[str, bytes], ...] = ()
    if refusal.invalid:
        info = error_details_pb2.ErrorInfo(
            reason="EXACTLY_ONCE_ACKID_FAILURE",
            domain="pubsub.googleapis.com",
            metadata=dict.fromkeys(refusal.invalid, "PERMANENT_FAILURE_INVALID_ACK_ID"),
        )
        detail = any_pb2.Any()
        detail.Pack(info)
        status = status_pb2.Status(code=refusal.code.value[0], message=str(refusal), details=[detail])
        trailing = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(refusal.code, str(refusal), trailing)
