"""Messages as the bytes of their frames, all of a batch in one piece: pika writes each frame by itself, three for a message.

The frames are those of AMQP 0-9-1, sections 4.2.3 to 4.2.6. What pika makes of a method and of properties is used as it is.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from pika import frame, spec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from machinery_broker_amqp._publishing import Parcel

_HEADER = struct.Struct(">BHLHHQ")
"""Type, channel and size of the frame; class, weight, and the size of the body."""
_HEADER_SIZE = 12
"""Bytes of a header frame's content before the properties."""
_BODY = struct.Struct(">BHL")
_END = bytes([spec.FRAME_END])
_AROUND = 8
"""Bytes that a frame has around its content."""
_MOST_METHODS = 1000
"""Destinations that are remembered: more are as good as none."""


class Frames:
    """Writes messages into one of pika's channels."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._number: int = raw.channel_number
        self._largest = raw.connection.params.frame_max - _AROUND
        self._methods: dict[tuple[str, str], bytes] = {}

    def write(self, parcels: Iterable[Parcel]) -> None:
        """Publish them, each to be returned where it arrives in no queue. Raises pika's error where the channel is not open."""
        self._raw._raise_if_not_open()  # noqa: SLF001 - as pika's own publishing does first
        pieces: list[bytes] = []
        for parcel in parcels:
            self._put(parcel, pieces)
        # pika has no public way to write what is marshalled already.
        self._raw.connection._output_marshaled_frames([b"".join(pieces)])  # noqa: SLF001

    def _put(self, parcel: Parcel, pieces: list[bytes]) -> None:
        method = self._methods.get((parcel.exchange, parcel.routing_key))
        if method is None:
            method = self._method_for(parcel)
        properties, body = b"".join(parcel.properties.encode()), parcel.body
        size, number = len(body), self._number
        header = _HEADER.pack(
            spec.FRAME_HEADER, number, _HEADER_SIZE + len(properties), spec.BasicProperties.INDEX, 0, size
        )
        pieces += (method, header, properties, _END)
        if 0 < size <= self._largest:
            pieces += (_BODY.pack(spec.FRAME_BODY, number, size), body, _END)
            return
        for start in range(0, size, self._largest):
            part = body[start : start + self._largest]
            pieces += (_BODY.pack(spec.FRAME_BODY, number, len(part)), part, _END)

    def _method_for(self, parcel: Parcel) -> bytes:
        if len(self._methods) >= _MOST_METHODS:
            self._methods.clear()
        publish = spec.Basic.Publish(exchange=parcel.exchange, routing_key=parcel.routing_key, mandatory=True)
        made: bytes = frame.Method(self._number, publish).marshal()
        self._methods[parcel.exchange, parcel.routing_key] = made
        return made
