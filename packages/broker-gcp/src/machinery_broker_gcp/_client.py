"""One Pub/Sub: its calls over gRPC with plain protobuf messages, what passes by itself sat out, errors translated.

The stubs are our own, on the channel of Google's clients: these wrap each message in two more objects, and each call in retries
of up to ten minutes.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from time import monotonic, sleep
from typing import Any
from urllib.parse import quote

import grpc
from google.protobuf import empty_pb2
from google.pubsub_v1 import PublisherClient, SubscriberClient, types

from machinery.errors import BrokerUnavailable, Closed, ConfigError, MachineryError
from machinery_broker_gcp._errors import (
    DRIVER_ERRORS,
    ack_failures,
    is_away,
    is_passing,
    is_permanent,
    translate,
)
from machinery_broker_gcp._options import GOOGLE, Service

Acknowledge = types.AcknowledgeRequest.pb()
ModifyAckDeadline = types.ModifyAckDeadlineRequest.pb()
Publish = types.PublishRequest.pb()
Pull = types.PullRequest.pb()
PubsubMessage = types.PubsubMessage.pb()
StreamingPull = types.StreamingPullRequest.pb()
Subscription = types.Subscription.pb()
Topic = types.Topic.pb()

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds before asking again; each time twice as long, and by chance up to half of it less."""
ACK_IDS_AT_ONCE = 1000
"""Acknowledgements in one call: it may have 512 KiB, and an id has about 200 bytes."""
_ATTEMPTS = 3
"""How often acknowledgements that fail for the moment are tried in one go."""

_GOODBYE, _BETWEEN_LOOKS = 0.5, 0.005
"""Seconds that closing waits for calls that are under way, and between two looks at them: gRPC has no way to wait for several."""

_CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_metadata_size", 4 * 1024 * 1024),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.use_local_subchannel_pool", 1),
)


class _Method:
    """One method of the service, and which field of its request says what it is about."""

    def __init__(self, service: str, name: str, request: Any, response: Any, field: str) -> None:
        self.path = f"/google.pubsub.v1.{service}/{name}"
        self.service = service
        self.serialize = request.SerializeToString
        self.deserialize = response.FromString
        self.field = field


PUBLISH = _Method("Publisher", "Publish", Publish, types.PublishResponse.pb(), "topic")
GET_TOPIC = _Method("Publisher", "GetTopic", types.GetTopicRequest.pb(), Topic, "topic")
CREATE_TOPIC = _Method("Publisher", "CreateTopic", Topic, Topic, "name")
GET_SUBSCRIPTION = _Method(
    "Subscriber", "GetSubscription", types.GetSubscriptionRequest.pb(), Subscription, "subscription"
)
CREATE_SUBSCRIPTION = _Method("Subscriber", "CreateSubscription", Subscription, Subscription, "name")
PULL = _Method("Subscriber", "Pull", Pull, types.PullResponse.pb(), "subscription")
ACKNOWLEDGE = _Method("Subscriber", "Acknowledge", Acknowledge, empty_pb2.Empty, "subscription")
MODIFY = _Method("Subscriber", "ModifyAckDeadline", ModifyAckDeadline, empty_pb2.Empty, "subscription")
_STREAMING_PULL = _Method(
    "Subscriber", "StreamingPull", StreamingPull, types.StreamingPullResponse.pb(), "subscription"
)


def require_client(client: Any, kind: type[Any], name: str) -> Any:
    """The gRPC channel of ``client``, if it is one of Google's clients of that ``kind``. Raises `ConfigError`."""
    if not isinstance(client, kind):
        raise ConfigError(f"{name} is a {type(client).__name__}; pass a google.cloud.pubsub_v1.{kind.__name__}")
    channel = getattr(client.transport, "grpc_channel", None)
    if not isinstance(channel, grpc.Channel):
        raise ConfigError(f"{name} talks {client.transport.kind}; pass one whose transport is grpc")
    return channel


class Client:
    """One Pub/Sub. Safe from any thread; connects when it is first used.

    Every error is translated (`_errors`); `Closed` after `close`.
    """

    def __init__(self, service: Service, publisher: Any = None, subscriber: Any = None) -> None:
        """With the application's own clients, or ``None`` for one of our own. Raises `ConfigError`."""
        self.service = service
        self.names = service.names
        self.checked: set[str] = set()
        """The queues of which is known that all they need is there."""
        self._given = {
            "Publisher": publisher and require_client(publisher, PublisherClient, "publisher"),
            "Subscriber": subscriber and require_client(subscriber, SubscriberClient, "subscriber"),
        }
        self._own: Any = None
        self._stubs: dict[str, Any] = {}
        self._under_way: set[Any] = set()
        """Calls whose answers nobody waits for."""
        self._opening = threading.Lock()
        self._closed = False

    # -- calls ---------------------------------------------------------------------------------------------------------

    def call(self, method: _Method, request: Any, *, patient: bool = True) -> Any:
        """The answer. ``patient``: while Pub/Sub is away, goes on trying until the time to connect is over."""
        deadline = monotonic() + (self.service.connect_timeout if patient else 0)
        pause = FIRST_PAUSE
        while True:
            try:
                return self._call_once(method, request)
            except DRIVER_ERRORS as error:
                self.check_open()
                left = deadline - monotonic()
                if left <= 0 or not is_passing(error):
                    raise self.translated(error, getattr(request, method.field)) from None
            sleep(min(left, pause * random.uniform(0.5, 1.0)))  # noqa: S311 - so that those who wait do not all come back at once
            pause = min(LONGEST_PAUSE, 2 * pause)

    def _call_once(self, method: _Method, request: Any) -> Any:
        stub = self._stub(method)
        try:
            return stub(
                request, timeout=self.service.answer_timeout, metadata=_routing(method, getattr(request, method.field))
            )
        except ValueError:  # of a channel that was closed in this moment
            self.check_open()
            raise

    def acknowledge(self, subscription: str, ack_ids: Sequence[str]) -> set[str]:
        """Settle for good. Returns those that an exactly-once subscription says are another's by now."""
        return self._each_ack(ACKNOWLEDGE, ack_ids, lambda part: Acknowledge(subscription=subscription, ack_ids=part))

    def modify(self, subscription: str, ack_ids: Sequence[str], seconds: int, *, patient: bool = True) -> set[str]:
        """Have them come again in ``seconds`` from now unless they are settled; 0: now. Returns as `acknowledge`."""
        return self._each_ack(
            MODIFY,
            ack_ids,
            lambda part: ModifyAckDeadline(subscription=subscription, ack_ids=part, ack_deadline_seconds=seconds),
            patient=patient,
        )

    def give_back_soon(self, subscription: str, ack_ids: Sequence[str]) -> None:
        """Have them come again now, without waiting for the answer: what fails comes again when its time is over."""
        for begin in range(0, len(ack_ids), ACK_IDS_AT_ONCE):
            part = ack_ids[begin : begin + ACK_IDS_AT_ONCE]
            request = ModifyAckDeadline(subscription=subscription, ack_ids=part, ack_deadline_seconds=0)
            try:
                call = self._stub(MODIFY).future(
                    request, timeout=self.service.answer_timeout, metadata=_routing(MODIFY, subscription)
                )
                self._under_way.add(call)  # one that nobody holds is cancelled
                call.add_done_callback(self._under_way.discard)
            except (*DRIVER_ERRORS, ValueError, MachineryError):
                return

    def _each_ack(
        self,
        method: _Method,
        ack_ids: Sequence[str],
        to_request: Callable[[Sequence[str]], Any],
        *,
        patient: bool = True,
    ) -> set[str]:
        lost: set[str] = set()
        for begin in range(0, len(ack_ids), ACK_IDS_AT_ONCE):
            part: Sequence[str] = ack_ids[begin : begin + ACK_IDS_AT_ONCE]
            for attempt in range(_ATTEMPTS):
                try:
                    self.call(method, to_request(part), patient=patient)
                    break
                except _AcksFailed as failed:
                    lost.update(ack_id for ack_id in part if is_permanent(failed.failures.get(ack_id, "")))
                    part = [ack_id for ack_id in part if ack_id in failed.failures and ack_id not in lost]
                    if not part:
                        break
                    if attempt == _ATTEMPTS - 1:
                        raise BrokerUnavailable(
                            f"Pub/Sub at {self.service.address} cannot say now whether {len(part)} acknowledgements hold"
                        ) from None
        return lost

    def stream(self, requests: Iterator[Any], subscription: str) -> Any:
        """A StreamingPull that sends ``requests``. Raises `Closed`, `ConfigError`; all else is raised by reading it."""
        try:
            return self._stub(_STREAMING_PULL)(requests, metadata=_routing(_STREAMING_PULL, subscription))
        except ValueError:
            self.check_open()
            raise

    def translated(self, error: BaseException, what: str = "") -> MachineryError | _AcksFailed:
        """What to raise instead of gRPC's ``error``."""
        self.check_open()
        if (failures := ack_failures(error)) and not is_away(error):
            return _AcksFailed(failures)
        return translate(error, self.service.address, self.service.url, what)

    # -- what it holds -------------------------------------------------------------------------------------------------

    def _stub(self, method: _Method) -> Any:
        stub = self._stubs.get(method.path)
        if stub is None or self._closed:
            with self._opening:
                self.check_open()
                channel = self._given[method.service] or self._own_channel()
                is_stream = method is _STREAMING_PULL
                make = channel.stream_stream if is_stream else channel.unary_unary
                stub = self._stubs[method.path] = make(
                    method.path, request_serializer=method.serialize, response_deserializer=method.deserialize
                )
        return stub

    def _own_channel(self) -> Any:
        if self._own is None:
            options = self.service.options
            if options.emulator_host:
                self._own = grpc.insecure_channel(options.emulator_host, _CHANNEL_OPTIONS)
            else:
                try:
                    self._own = SubscriberClient.get_transport_class("grpc").create_channel(  # type: ignore[attr-defined] # the class has it, its base has not
                        options.endpoint or GOOGLE, options=_CHANNEL_OPTIONS
                    )
                except DRIVER_ERRORS as error:
                    raise translate(error, self.service.address, self.service.url) from None
        return self._own

    def check_open(self) -> None:
        """Raise `Closed` after `close`."""
        if self._closed:
            raise Closed(f"the broker on Pub/Sub at {self.service.address} was closed")

    def close(self) -> None:
        """Let go of the connection; the application's own clients are left to it."""
        deadline = monotonic() + _GOODBYE
        while self._under_way and monotonic() < deadline:
            sleep(_BETWEEN_LOOKS)
        with self._opening:
            self._closed = True
            own, self._own = self._own, None
        if own is not None:
            own.close()


class _AcksFailed(MachineryError):
    """What an exactly-once subscription says of acknowledgements that failed. Never leaves this module."""

    def __init__(self, failures: Any) -> None:
        super().__init__("acknowledgements failed")
        self.failures = failures


def _routing(method: _Method, name: str) -> tuple[tuple[str, str], ...]:
    """The header by which Google's front ends route a call."""
    return (("x-goog-request-params", f"{method.field}={quote(name, safe='/')}"),)
