"""Where a service comes from: a URL in the environment, else a container, else a local program, else a skip that says why."""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import NoReturn

import pytest

Source = Callable[[], AbstractContextManager[str]]
"""Gives the service's URL for as long as it is entered. Raises `Unobtainable`."""

SOURCES_VARIABLE = "MACHINERY_SERVICES"
"""Names, separated by commas, of the only sources to ask: ``environment``, ``testcontainers``, ``program``. Unset: all."""

REQUIRED_VARIABLE = "MACHINERY_REQUIRE"
"""Names, separated by commas, of services whose absence is a failure and not a skip."""


class Unobtainable(Exception):
    """This source has nothing; the text says why."""


def is_required(service: str) -> bool:
    """Whether tests that lack ``service`` fail."""
    return service in _names_in(REQUIRED_VARIABLE)


def is_asked_for(source: str) -> bool:
    """Whether ``source`` is among the only ones to ask."""
    return source in _names_in(SOURCES_VARIABLE)


def missing(service: str, why: str) -> NoReturn:
    """Skip the test that lacks ``service``, or fail it where the service is required."""
    if is_required(service):
        pytest.fail(f"{service} is required ({REQUIRED_VARIABLE}): {why}", pytrace=False)
    pytest.skip(f"needs {service}: {why}")


@contextmanager
def obtained(service: str, sources: Mapping[str, Source]) -> Iterator[str]:
    """The URL of ``service`` from the first source that has it."""
    reasons: list[str] = []
    allowed = _names_in(SOURCES_VARIABLE)
    for name, source in sources.items():
        if allowed and name not in allowed:
            reasons.append(f"{name}: {SOURCES_VARIABLE} rules it out")
            continue
        try:
            context = source()
            url = context.__enter__()
        except Unobtainable as reason:
            reasons.append(f"{name}: {reason}")
            continue
        try:
            yield url
        finally:
            context.__exit__(None, None, None)
        return
    missing(service, "; ".join(reasons))


@contextmanager
def from_environment(variable: str, scheme: str) -> Iterator[str]:
    """The URL that ``variable`` holds; a bare ``host:port`` is fine, as in Go Machinery."""
    url = os.environ.get(variable, "").strip()
    if not url:
        raise Unobtainable(f"{variable} is not set")
    yield url if "://" in url else f"{scheme}://{url}"


def check_docker() -> None:
    """Raise `Unobtainable` unless a Docker engine answers. The client program alone proves nothing."""
    try:
        import docker  # noqa: PLC0415 - only where containers are asked for
    except ImportError as error:
        raise Unobtainable(f"testcontainers is not installed ({error})") from error
    failure = ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # a failed attempt leaves its socket to the garbage collector
        try:
            engine = docker.from_env(timeout=10)
            try:
                engine.ping()
            finally:
                engine.close()
        except Exception as error:  # noqa: BLE001 - whatever it is, containers are out of the question
            failure = type(error).__name__
        gc.collect()
    if failure:
        raise Unobtainable(f"no Docker engine answers ({failure})")


def _names_in(variable: str) -> set[str]:
    return {name.strip() for name in os.environ.get(variable, "").split(",")} - {""}
