"""The options of tasks: what their signatures carry, how their runs are treated, and what may be written for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict

from machinery._headers import EXPIRES
from machinery._retry import Fibonacci, Retry
from machinery._signatures import Signature, checked_headers
from machinery._times import encode_time, to_timedelta
from machinery.errors import ConfigError, EncodeError


class SendOptions(TypedDict, total=False):
    """What may be written for `TaskOptions`: spans are a `timedelta` or a number of seconds."""

    queue: str
    priority: int
    retry_count: int
    retry_timeout: timedelta | float
    immutable: bool
    expires: timedelta | float | datetime | None
    eta: datetime | None
    countdown: timedelta | float | None
    headers: Mapping[str, Any] | None
    on_success: Signature | Iterable[Signature]
    on_error: Signature | Iterable[Signature]
    ignore_when_task_not_registered: bool
    stop_task_deletion_on_error: bool


class RegisterOptions(SendOptions, total=False):
    """What may be written where a task is registered: the above, and what goes into `RunOptions`."""

    retry: Retry
    retry_for: type[BaseException] | Iterable[type[BaseException]]
    no_retry_for: type[BaseException] | Iterable[type[BaseException]]
    soft_time_limit: timedelta | float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """What a task's signatures carry when they are made."""

    queue: str = ""
    priority: int = 0
    retry_count: int = 0
    """Failures after which it is run again."""
    retry_timeout: int = 0
    """Where Go's Fibonacci row starts, in seconds."""
    immutable: bool = False
    expires: timedelta | datetime | None = None
    """Not started later than this (after sending, or an aware instant): it fails instead."""
    eta: datetime | None = None
    countdown: timedelta | None = None
    headers: Mapping[str, Any] | None = None
    on_success: tuple[Signature, ...] = ()
    on_error: tuple[Signature, ...] = ()
    ignore_when_task_not_registered: bool = False
    stop_task_deletion_on_error: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How a worker treats a task's runs."""

    retry: Retry = field(default_factory=Fibonacci)
    retry_for: tuple[type[BaseException], ...] = (Exception,)
    """Failures of these types are retried …"""
    no_retry_for: tuple[type[BaseException], ...] = ()
    """… unless they are of one of these."""
    soft_time_limit: timedelta | None = None


def run_options(name: str, given: Mapping[str, Any]) -> RunOptions:
    """The run options among those ``given`` for the task ``name``. Raises `ConfigError` for a bad value."""
    values = {key: given[key] for key in given if key in RunOptions.__dataclass_fields__}
    limit = values.get("soft_time_limit")
    if limit is not None:
        try:
            values["soft_time_limit"] = to_timedelta(limit)
        except _NO_SPAN:
            raise ConfigError(f"the soft_time_limit of {name} is {limit!r}; {_A_SPAN}") from None
        if values["soft_time_limit"] <= timedelta(0):
            raise ConfigError(f"the soft_time_limit of {name} must be positive")
    for key in ("retry_for", "no_retry_for"):
        if key in values:
            kinds = values[key]
            values[key] = (kinds,) if isinstance(kinds, type) else tuple(kinds)
    return RunOptions(**values)


def task_options(base: TaskOptions, changes: Mapping[str, Any]) -> TaskOptions:
    """``base`` with ``changes`` by name, normalised. Raises `TypeError` for an unknown name, `EncodeError` for a bad value."""
    known = TaskOptions.__dataclass_fields__
    unknown = [key for key in changes if key not in known]
    if unknown:
        raise TypeError(f"unknown task option {unknown[0]!r}; the options are {', '.join(known)}")
    made = replace(base, **_normalised(changes))
    if made.eta is not None and made.countdown is not None:
        raise EncodeError("eta and countdown exclude each other; give one of them")
    for moment, what in ((made.eta, "eta"), (made.expires, "expiry")):
        if isinstance(moment, datetime) and moment.utcoffset() is None:
            raise EncodeError(f"the {what} {moment.isoformat()} has no time zone; use an aware datetime")
    return made


def eta_of(options: TaskOptions) -> datetime | None:
    """When a signature that is made now may start. Raises `EncodeError` for a time that no date can say."""
    return options.eta if options.countdown is None else _moment_after("countdown", options.countdown)


def headers_of(options: TaskOptions) -> Mapping[str, Any] | None:
    """The headers of a signature that is made now. Raises `EncodeError` for an expiry that no date can say."""
    if options.expires is None:
        return options.headers
    at = options.expires
    if isinstance(at, timedelta):
        at = _moment_after("expires", at)
    return {**(options.headers or {}), EXPIRES: encode_time(at)}


def _normalised(changes: Mapping[str, Any]) -> dict[str, Any]:
    values = {key: _NORMALISERS[key](key, value) if key in _NORMALISERS else value for key, value in changes.items()}
    if values.get("countdown") is not None:
        values.setdefault("eta", None)
    elif values.get("eta") is not None:
        values.setdefault("countdown", None)
    return values


def _signatures(key: str, given: Any) -> tuple[Any, ...]:
    try:
        return (given,) if isinstance(given, Signature) else tuple(given)
    except TypeError:
        raise EncodeError(f"the option {key} is {given!r}, not a signature or a list of them") from None


def _headers(_: str, given: Any) -> Mapping[str, Any] | None:
    return checked_headers("a task", given)


def _seconds(key: str, given: Any) -> int:
    return math.ceil(_span(key, given).total_seconds())


def _span_from_now(key: str, given: Any) -> timedelta | None:
    if given is None:
        return None
    span = _span(key, given)
    _moment_after(key, span)  # refused where it is written, not where it is sent
    return span


def _expiry(key: str, given: Any) -> timedelta | datetime | None:
    return given if isinstance(given, datetime) else _span_from_now(key, given)


_NORMALISERS: Mapping[str, Callable[[str, Any], Any]] = {
    "on_success": _signatures,
    "on_error": _signatures,
    "headers": _headers,
    "retry_timeout": _seconds,
    "countdown": _span_from_now,
    "expires": _expiry,
}

_A_SPAN = "it must be a span: a timedelta, or a number of seconds"
_NO_SPAN = (TypeError, ValueError, OverflowError)
"""What `to_timedelta` raises for something else: no number, not a number, more than a `timedelta` holds."""


def _span(key: str, given: Any) -> timedelta:
    try:
        return to_timedelta(given)
    except _NO_SPAN:
        raise EncodeError(f"the option {key} is {given!r}; {_A_SPAN}") from None


def _moment_after(key: str, span: timedelta) -> datetime:
    try:
        return datetime.now(UTC) + span
    except OverflowError:
        raise EncodeError(f"the option {key} is {span}; that from now is in no year from 1 to 9999") from None
