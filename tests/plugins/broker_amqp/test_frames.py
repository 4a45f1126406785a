"""What is written at once is, byte for byte, what pika would write frame by frame."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pika
import pytest
from pika import frame, spec
from pika.exceptions import ChannelWrongStateError

from machinery_broker_amqp._frames import _MOST_METHODS, Frames
from machinery_broker_amqp._publishing import Parcel

FRAME_MAX = 4096


@dataclass
class Wire:
    """A channel of pika's, as far as it is written to."""

    channel_number: int = 3
    is_open: bool = True
    written: bytes = b""
    connection: Any = field(init=False)

    def __post_init__(self) -> None:
        self.connection = SimpleNamespace(
            params=SimpleNamespace(frame_max=FRAME_MAX), _output_marshaled_frames=self._output
        )

    def _output(self, marshaled: list[bytes]) -> None:
        self.written += b"".join(marshaled)

    def _raise_if_not_open(self) -> None:
        if not self.is_open:
            raise ChannelWrongStateError


def by_pika(parcel: Parcel, number: int = 3) -> bytes:
    method = spec.Basic.Publish(exchange=parcel.exchange, routing_key=parcel.routing_key, mandatory=True)
    largest = FRAME_MAX - 8
    parts = [parcel.body[start : start + largest] for start in range(0, len(parcel.body), largest)]
    frames = [frame.Method(number, method), frame.Header(number, len(parcel.body), parcel.properties)]
    return b"".join(each.marshal() for each in [*frames, *(frame.Body(number, part) for part in parts)])


@pytest.mark.parametrize("size", [0, 1, 300, FRAME_MAX - 8, FRAME_MAX - 7, 3 * FRAME_MAX])
@pytest.mark.parametrize("exchange", ["", "machinery_exchange"])
@pytest.mark.parametrize(
    "properties",
    [
        pika.BasicProperties(),
        pika.BasicProperties(content_type="application/json", delivery_mode=2, priority=5, headers={}),
        pika.BasicProperties(delivery_mode=2, expiration="1000", headers={"text": "é", "flag": True, "n": {"a": [1]}}),
    ],
    ids=["none", "usual", "headers"],
)
def test_a_message_is_what_pika_makes_of_it(size: int, exchange: str, properties: pika.BasicProperties) -> None:
    wire = Wire()
    parcel = Parcel(exchange, "a.queue", properties, bytes(size))
    Frames(wire).write([parcel])
    assert wire.written == by_pika(parcel)


def test_a_batch_is_one_after_the_other_however_many_destinations_there_are() -> None:
    wire = Wire()
    parcels = [Parcel("x", f"key-{at}", pika.BasicProperties(), b"body") for at in range(_MOST_METHODS + 5)] * 2
    Frames(wire).write(parcels)
    assert wire.written == b"".join(map(by_pika, parcels))


def test_nothing_is_written_into_a_closed_channel() -> None:
    wire = Wire(is_open=False)
    with pytest.raises(ChannelWrongStateError):
        Frames(wire).write([Parcel("", "q", pika.BasicProperties(), b"")])
    assert wire.written == b""
