"""Bytes that are not quite what Go writes: what is taken, what is refused and in which words, and that nothing else happens."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest

from machinery import _decoding
from machinery._signatures import Signature
from machinery._states import GroupMeta, State, TaskState
from machinery._times import ZERO_TIME
from machinery._values import Arg, decode_value
from machinery.errors import ArgumentError, DecodeError, EncodeError
from machinery.wire import (
    decode_group,
    decode_signature,
    decode_state,
    encode_group,
    encode_signature,
    encode_state,
)

GOLDEN = sorted((Path(__file__).parent / "golden").glob("g*.json"))
PLAIN = encode_signature(Signature("add", [1, 2.5, "x"], uuid="a", headers={"k": 1.5}))


def test_a_body_is_read_the_same_by_the_short_way_and_the_long() -> None:
    # Given a body whose end is all zeros, and the same with blanks, which rule the short way out
    document = json.loads(PLAIN)

    # Then
    assert decode_signature(json.dumps(document).encode()) == decode_signature(PLAIN)


def test_zeros_that_end_something_else_are_no_end_of_a_signature() -> None:
    tail = PLAIN[PLAIN.index(b',"Priority"') :]

    assert decode_signature(b'{"UUID":"a"' + tail + b'{"UUID":"b"' + tail).uuid == "a"
    assert decode_signature(b'{"UUID":"a"}' + tail).uuid == "a"
    for broken in (b'{"Headers":{"UUID":"a"', b'{"UUID":"a', b'["a"', b"", b'{"UUID":"a",'):
        with pytest.raises(DecodeError):
            decode_signature(broken + tail)


CALLBACK = Signature("total", [7], uuid="c", headers={}, on_error=[Signature("alarm", ["a"])], priority=2)
MEMBER = encode_signature(Signature("add", [1], uuid="a", group_uuid="g", chord_callback=CALLBACK, headers={"k": 1}))


@pytest.mark.parametrize(
    "body",
    [
        MEMBER,
        MEMBER.replace(b'"a"', b'"b"', 1),  # another member of the same chord
        MEMBER.replace(b'"c"', b'"d"', 1),  # a member of another one
        MEMBER + b" " + MEMBER,
        b" " + MEMBER,
        MEMBER.replace(b'"Priority":0', b'"Priority":3'),
        MEMBER.replace(b'"Priority":0', b'"Priority":0,"UUID":"z"'),
        MEMBER.replace(b'"Priority":0', b'"Priority":0,"uuid":""'),
        MEMBER.replace(b'"Priority":0', b'"Priority":-0'),
        MEMBER.replace(b'"Priority":0', b'"Priority":256'),
        MEMBER.replace(b'"Priority":0', b'"Priority":null'),
        MEMBER.replace(b'"Priority":0', b'"priority":0'),
        MEMBER.replace(b'"Priority":2', b'"Priority":{"Priority":2}'),
        MEMBER.replace(b'"Type":"int64","Value":1', b'"Type":"json","Value":{"a":[1],"Priority":2}', 1),
        MEMBER.replace(b'"Immutable":false', b'"Immutable":0', 1),
        MEMBER.replace(b'"Immutable":false,', b"", 1),
        MEMBER.replace(b'"OnSuccess":null', b'"OnSuccess":[null,{"UUID":"n"}]', 1),
        MEMBER.replace(b'"ETA":null', b'"ETA":"soon"', 1),
        MEMBER.replace(b'"Headers":{', b'"Headers":{"Priority":1,', 1),
        MEMBER.replace(b'"Headers"', b'"Headers":{},"Priority":1,"headers"', 1),
        MEMBER.replace(b'"total"', b'"\\ud800"'),
        MEMBER.replace(b'"total"', b'"\xff"'),
        MEMBER.replace(b'"total"', b"5"),
        MEMBER[:-1],
        MEMBER[:-1] + b',"Extra":1}',
    ],
)
def test_a_member_of_a_chord_is_read_the_same_by_the_short_way_and_the_long(
    body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given what the short way says, with the end of the chord's other members known already
    decode_signature(MEMBER)
    by_the_short_way = _said(body)

    # Then the long way says the same
    monkeypatch.setattr(_decoding, "_CHORD", b"this is in no body")
    assert by_the_short_way == _said(body)


def _said(body: bytes) -> Signature | str:
    try:
        return decode_signature(body)
    except DecodeError as error:
        return str(error)


def test_members_of_a_chord_share_its_callback() -> None:
    one, other = decode_signature(MEMBER), decode_signature(MEMBER.replace(b'"a"', b'"b"', 1))

    assert (one.uuid, other.uuid) == ("a", "b")
    assert one.chord_callback is other.chord_callback
    assert one.chord_callback is not None
    assert one.chord_callback.on_error[0].args == (Arg("string", "a"),)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ('{"RetryCount":"3"}', "RetryCount is a string, not an integer"),
        ('{"RetryCount":1.0}', "RetryCount is a number with a fraction or exponent, not an integer"),
        ('{"GroupTaskCount":9223372036854775808}', "GroupTaskCount does not fit int64"),
        ('{"Priority":256}', "Priority is outside 0 to 255"),
        ('{"uuid":5}', "UUID is an integer, not a string"),
        ('{"ETA":"soon"}', "ETA: 'soon' is not an RFC 3339 time"),
        ('{"Args":{}}', "Args is an object, not an array"),
        ('{"Args":[true]}', "an element of Args is a bool, not an object"),
        ('{"Args":[{"Name":"","Type":null,"Value":1,"More":1},{"Type":[]}]}', "Type is an array, not a string"),
        ('{"OnSuccess":[{},{"OnError":[{"Name":1}]}]}', "OnSuccess[1].OnError[0]: Name is an integer"),
        ('{"ChordCallback":{"Priority":-1}}', "ChordCallback[0]: Priority is outside"),
        ('{"OnError":[null,5]}', "OnError[1] is an integer, not an object"),
        ("[]", "a signature is a JSON object, not an array"),
        ("", "the body is empty"),
        (" \n", "the body is empty"),
        ("{", "not JSON"),
        ('{"UUID":NaN}', "NaN is not a JSON number"),
        ('{"RetryCount":' + "1" * 5000 + "}", "not JSON"),
    ],
)
def test_the_complaint_names_the_key(body: str, complaint: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_signature(body.encode())

    assert complaint in str(caught.value)


def test_a_null_among_the_successors_is_left_out() -> None:
    made = decode_signature(b'{"OnSuccess":[null,{"UUID":"b"},null,{"UUID":"c"}]}')

    assert [successor.uuid for successor in made.on_success] == ["b", "c"]


def test_the_text_of_a_number_survives_in_arguments_and_headers() -> None:
    body = (
        '{"Args":[{"Type":"float64","Value":1.50},{"Type":"float64","Value":-0},{"Type":"json","Value":{"b":[1e2],"a":-0.0}}],'
        '"Headers":{"x":0.10}}'
    )

    again = encode_signature(decode_signature(body.encode())).decode()

    for text in (":1.50}", ":-0}", '{"b":[1e2],"a":-0.0}', '"x":0.10'):
        assert text in again


def test_a_negative_zero_stays_one() -> None:
    for literal in (b"-0", b"-0.0", b" -0"):
        (arg,) = decode_signature(b'{"Args":[{"Type":"float64","Value":' + literal + b"}]}").args

        assert str(decode_value(arg.type, arg.value)) == "-0.0"


def test_a_state_without_keys_is_a_pending_one_and_a_group_without_keys_empty() -> None:
    assert decode_state(b"{}") == TaskState("", state=State.PENDING, created_at=ZERO_TIME)
    assert decode_group(b'{"taskuuids":["a",null]}') == GroupMeta("", ("a", ""))


def test_a_states_crashes_are_read_where_they_are() -> None:
    state = TaskState("a", "add", State.STARTED, crashes=2)

    assert decode_state(encode_state(state)) == state
    assert decode_state(b'{"TaskUUID":"a","crashes":3}').crashes == 3


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ('{"State":"DONE"}', "State is 'DONE'; the states are PENDING, RECEIVED"),
        ('{"Results":[5]}', "an element of Results is an integer"),
        ('{"Results":[{"Type":5,"Value":1}]}', "Type is an integer, not a string"),
        ('{"CreatedAt":"x"}', "CreatedAt: 'x' is not an RFC 3339 time"),
        ('{"TTL":"1"}', "TTL is a string, not an integer"),
        ("5", "the document is an integer, not an object"),
    ],
)
def test_a_broken_state_is_refused(body: str, complaint: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_state(body.encode())

    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    "body", ['{"TaskUUIDs":[5]}', '{"TaskUUIDs":"x"}', '{"Lock":0}', "[]", '{"CreatedAt":""}', "{"]
)
def test_broken_group_metadata_is_refused(body: str) -> None:
    with pytest.raises(DecodeError):
        decode_group(body.encode())


# --------------------------------------------------------------------------------------------------------------- depth


def chain_of(length: int) -> Signature:
    made = Signature("last", uuid=str(length))
    for number in range(length - 1, 0, -1):
        made = Signature("link", [number], uuid=str(number), on_success=[made])
    return made


def length_of(chain: Signature) -> int:
    length = 1
    while chain.on_success:
        (chain,) = chain.on_success
        length += 1
    return length


@pytest.mark.parametrize("length", [3, 300, 1000, 4900])
def test_a_chain_may_be_as_long_as_go_can_read(length: int) -> None:
    body = encode_signature(chain_of(length))

    decoded = decode_signature(body)

    assert length_of(decoded) == length
    assert encode_signature(decoded) == body


def test_a_longer_chain_is_refused_when_it_is_sent() -> None:
    with pytest.raises(EncodeError, match="nests more than"):
        encode_signature(chain_of(5000))


def test_a_complaint_from_deep_down_stays_short() -> None:
    body = encode_signature(chain_of(1000)).replace(b'"Name":"last"', b'"Name":5')

    with pytest.raises(DecodeError) as caught:
        decode_signature(body)

    assert str(caught.value) == (
        "OnSuccess[0].OnSuccess[0].… 995 more ….OnSuccess[0].OnSuccess[0]: Name is an integer, not a string"
    )


def test_escapes_and_numbers_deep_down_are_read_as_they_are_further_up() -> None:
    body = encode_signature(chain_of(1000)).replace(b'"last"', b'"\\ud800\\n\xc3\xa9 \\ud83d\\ude00"')
    body = body.replace(b'"Value":999', b'"Value":[1.50,-0,true,{},[], null , {"a" : 1 , "b":[]}]')

    chain = [decode_signature(body)]
    while chain[-1].on_success:
        chain += chain[-1].on_success
    last_but_one, last = chain[-2:]

    assert last.name == "\ufffd\né 😀"
    assert decode_value("json", last_but_one.args[0].value) == [1.5, 0.0, True, {}, [], None, {"a": 1, "b": []}]


@pytest.mark.parametrize("depth", [2_000, 9_990])
def test_a_deeply_nested_value_is_decoded_and_then_refused(depth: int) -> None:
    body = '{"Args":[{"Type":"json","Value":' + "[" * depth + "]" * depth + "}]}"

    signature = decode_signature(body.encode())

    with pytest.raises(ArgumentError, match="nested too deeply"):
        decode_value("json", signature.args[0].value)
    with pytest.raises(ArgumentError, match="is not bool"):
        decode_value("bool", signature.args[0].value)
    with pytest.raises(EncodeError, match="nested too deeply"):
        encode_signature(signature)


@pytest.mark.parametrize(
    "inner",
    [
        "[",
        '{"a":',
        "[1,",
        '{"a":1,',
        '{"a":[1 2',
        "[}",
        '{"a"]',
        "{1",
        "[01]",
        "[nul",
        '["a',
        '{"a":1 "b"',
        "[" * 20_000,
        "[NaN",
    ],
)
def test_broken_documents_are_refused_deep_down_too(inner: str) -> None:
    with pytest.raises(DecodeError, match="not JSON"):
        decode_signature(('{"x":' + "[" * 3000 + inner).encode())


# ---------------------------------------------------------------------------------------------------------------- fuzz


def test_no_bytes_raise_anything_but_a_decode_error() -> None:
    # Given documents with some bytes changed, cut out or doubled
    random = Random(5)  # noqa: S311 - the same every time
    originals = [file.read_bytes() for file in GOLDEN]
    pieces = [
        b"null",
        b"-0",
        b"1e999",
        b'"\\ud800"',
        b"[",
        b"}",
        b"\xff",
        b"9" * 25,
        b"true",
        b'"',
        b"\\",
        b"NaN",
        b"1.5",
    ]
    taken = 0

    for _ in range(6000):
        body = bytearray(random.choice(originals))
        for _ in range(random.randint(1, 3)):
            start = random.randrange(len(body))
            end = start + random.choice([0, 0, 1, 1, 2, 5, 50])
            body[start:end] = random.choice([*pieces, body[end : end + 20], bytes([random.randrange(256)])])

        # When, then
        for decode, encode in (
            (decode_signature, encode_signature),
            (decode_state, encode_state),
            (decode_group, encode_group),
        ):
            taken += is_read_and_written(bytes(body), decode, encode)

    assert taken > 500


def is_read_and_written(body: bytes, decode: Callable[[bytes], Any], encode: Callable[[Any], bytes]) -> bool:
    try:
        decoded = decode(body)
    except DecodeError:
        return False
    for arg in getattr(decoded, "args", None) or getattr(decoded, "results", None) or ():
        with suppress(ArgumentError):
            decode_value(arg.type, arg.value)
    assert decode(encode(decoded)) == decoded
    return True
