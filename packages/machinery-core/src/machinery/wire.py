"""Signatures, states and group metadata ⇄ bytes, byte for byte as Go Machinery writes them (protocol §1.2, §2.2, §2.3).

Encoding raises `EncodeError` and nothing else; decoding raises `DecodeError`, naming the key, and nothing else, whatever the
bytes. Decoding is as lenient as Go: missing keys and ``null`` are zero values, unknown keys are dropped, keys may be in any
case, and what follows the first JSON value is ignored. A number that was decoded is encoded with the text it had.
"""

from __future__ import annotations

from machinery._decoding import decode_group, decode_signature, decode_state
from machinery._encoding import encode_group, encode_signature, encode_state, encode_value, plain_value
from machinery._times import decode_time, encode_time

__all__ = [
    "decode_group",
    "decode_signature",
    "decode_state",
    "decode_time",
    "encode_group",
    "encode_signature",
    "encode_state",
    "encode_time",
    "encode_value",
    "plain_value",
]
