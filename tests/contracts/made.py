"""Making several of a thing in one test, and closing them all at its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, Self, TypeVar


class Closable(Protocol):
    def close(self) -> None: ...


T = TypeVar("T", bound=Closable)


class Made(Generic[T]):
    """Calls ``make`` and remembers what it made; as a context manager it closes that at the end."""

    def __init__(self, make: Callable[..., T]) -> None:
        self._make = make
        self._made: list[T] = []

    def __call__(self, *arguments: object, **options: object) -> T:
        made = self._make(*arguments, **options)
        self._made.append(made)
        return made

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._made:
            each.close()
