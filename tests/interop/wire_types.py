"""One example per type of the wire format and edge of its range: how Go writes it, and what it is in Python."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest


@dataclass(frozen=True, slots=True)
class Example:
    """A value of one wire type."""

    type: str
    wire: Any
    """The value in JSON, as Go reads and writes it."""
    value: Any
    """The value in Python."""
    answered_as: str
    """The type that a Python task gives it when it answers it: Python has one type of integers, and one of floats."""

    @property
    def task(self) -> str:
        """The task, registered on both sides, that answers an argument of this type."""
        name = "uint8" if self.type == "[]byte" else self.type.removeprefix("[]")
        return f"echo_{name}s" if self.type.startswith("[]") else f"echo_{name}"

    @property
    def expected(self) -> Any:
        """The value to compare with: single-precision floats come back within their precision."""
        return pytest.approx(self.value, rel=1e-7) if self.type.endswith("float32") else self.value

    def __str__(self) -> str:
        text = f"{self.type} {self.value!r}"
        return ascii(text if len(text) <= 60 else f"{text[:60]}…")


LARGEST_FLOAT32 = 3.4028234663852886e38
TEXT = 'Grüße <&> \u2028\u2029 \U0001f600 " \\ / \x00\x1f\x7f \n\t'


def _integers(signed: bool, width: str, bits: int) -> list[Example]:
    smallest = -(2 ** (bits - 1)) if signed else 0
    largest = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    name = f"int{width}" if signed else f"uint{width}"

    def answered(value: int) -> str:
        return "int64" if value < 2**63 else "uint64"

    edges = [Example(name, edge, edge, answered(edge)) for edge in (smallest, largest)]
    if name == "uint8":
        return edges
    both = [smallest, 7, largest]
    return [*edges, Example(f"[]{name}", both, both, f"[]{answered(largest)}"), Example(f"[]{name}", [], [], "[]int64")]


EXAMPLES = [
    Example("bool", True, True, "bool"),
    Example("bool", False, False, "bool"),
    Example("[]bool", [True, False], [True, False], "[]bool"),
    Example("[]bool", [], [], "[]bool"),
    Example("string", "", "", "string"),
    Example("string", TEXT, TEXT, "string"),
    Example("[]string", ["a", "", TEXT], ["a", "", TEXT], "[]string"),
    Example("[]string", [], [], "[]string"),
    *(
        example
        for signed in (True, False)
        for width, bits in (("", 64), ("8", 8), ("16", 16), ("32", 32), ("64", 64))
        for example in _integers(signed, width, bits)
    ),
    *(
        Example(name, text, value, "[]uint8")
        for name in ("[]uint8", "[]byte")
        for text, value in (("", b""), ("AGhp/w==", b"\x00hi\xff"))
    ),
    Example("float32", 0.1, 0.1, "float64"),
    Example("float32", LARGEST_FLOAT32, LARGEST_FLOAT32, "float64"),
    Example("[]float32", [0.5, -2.0, 1e-30], [0.5, -2.0, 1e-30], "[]float64"),
    Example("[]float32", [], [], "[]float64"),
    Example("float64", 0.1, 0.1, "float64"),
    Example("float64", 2.0, 2.0, "float64"),
    Example("float64", 1e21, 1e21, "float64"),
    Example("float64", 5e-324, 5e-324, "float64"),
    Example("float64", 1.7976931348623157e308, 1.7976931348623157e308, "float64"),
    Example("[]float64", [1.0, -0.25, 1e-7], [1.0, -0.25, 1e-7], "[]float64"),
    Example("[]float64", [], [], "[]float64"),
]
