"""What is installed: the classes that distributions offer for URL schemes, found through entry points.

Scanned once per process; a plug-in is imported when its scheme is first used. Core's own schemes are known without installed
metadata too (a source checkout on ``PYTHONPATH``).
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from machinery._sections import Section
from machinery._settings import closest
from machinery.errors import ConfigError, SchemeConflict, UnknownScheme

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

BROKERS = "machinery.brokers"
BACKENDS = "machinery.backends"
LOCKS = "machinery.locks"
GROUPS = (BROKERS, BACKENDS, LOCKS)

CORE = "machinery-core"
DISTRIBUTIONS: Mapping[str, str] = {
    "amqp": "machinery-broker-amqp",
    "amqps": "machinery-broker-amqp",
    "dynamodb": "machinery-backend-dynamodb",
    "gcppubsub": "machinery-broker-gcp",
    "memcache": "machinery-backend-memcache",
    "mongodb": "machinery-backend-mongo",
    "mongodb+srv": "machinery-backend-mongo",
    "redis": "machinery-broker-redis",
    "redis+socket": "machinery-broker-redis",
    "rediss": "machinery-broker-redis",
    "sqs": "machinery-broker-sqs",
}
"""Scheme → what to install for it."""

SECTION_DISTRIBUTIONS: Mapping[str, str] = {
    "amqp": "machinery-broker-amqp",
    "dynamodb": "machinery-backend-dynamodb",
    "gcp_pub_sub": "machinery-broker-gcp",
    "mongodb": "machinery-backend-mongo",
    "redis": "machinery-broker-redis",
    "sqs": "machinery-broker-sqs",
}
"""Section of a Go configuration → what to install for it."""

_BUILT_IN: Mapping[str, Mapping[str, str]] = {
    BROKERS: {
        "eager": "machinery.eager:EagerBroker",
        "memory": "machinery.memory:MemoryBroker",
        "sqlite": "machinery.sqlite:SqliteBroker",
    },
    BACKENDS: {
        "eager": "machinery.eager:EagerBackend",
        "memory": "machinery.memory:MemoryBackend",
        "null": "machinery.null:NullBackend",
        "sqlite": "machinery.sqlite:SqliteBackend",
    },
    LOCKS: {
        "memory": "machinery.memory:MemoryLock",
        "sqlite": "machinery.sqlite:SqliteLock",
    },
}
_ROLES: Mapping[str, str] = {BROKERS: "broker", BACKENDS: "result backend", LOCKS: "lock"}


class Offer(NamedTuple):
    """One distribution's class for a scheme."""

    distribution: str
    version: str
    entry_point: EntryPoint


@functools.cache
def offers(group: str) -> Mapping[str, tuple[Offer, ...]]:
    """Scheme → the distributions that offer a class for it; more than one is a conflict.

    A distribution that is found twice (an editable install beside a wheel's metadata) counts once.
    """
    from importlib.metadata import EntryPoint, entry_points  # noqa: PLC0415 - slow, as it reads mail; not needed to import core

    found: dict[str, dict[str, Offer]] = {}
    for point in entry_points(group=group):
        name = _normal(point.dist.name) if point.dist else point.module
        version = point.dist.version if point.dist else ""
        found.setdefault(point.name.lower(), {}).setdefault(name, Offer(name, version, point))
    for scheme, value in _BUILT_IN[group].items():
        found.setdefault(scheme, {}).setdefault(CORE, Offer(CORE, "", EntryPoint(scheme, value, group)))
    return {scheme: tuple(offer for _, offer in sorted(claims.items())) for scheme, claims in sorted(found.items())}


def _normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def load_class(group: str, scheme: str) -> type[Any]:
    """The class for ``scheme``. Raises `UnknownScheme`, `SchemeConflict`, or `ConfigError` when it cannot be imported."""
    claims = offers(group).get(scheme, ())
    if not claims:
        raise UnknownScheme(_unknown(group, scheme))
    if len(claims) > 1:
        raise SchemeConflict(conflict(group, scheme))
    return load_offer(claims[0])


@functools.cache
def load_offer(offer: Offer) -> type[Any]:
    """Import what a distribution offers. Raises `ConfigError` that names it and says why it cannot be imported."""
    try:
        loaded = offer.entry_point.load()
    except Exception as error:
        raise ConfigError(
            f"the plug-in {offer.distribution} is installed but cannot be imported: {type(error).__name__}: {error}; "
            f"reinstall it (pip install --force-reinstall {offer.distribution}) or uninstall it"
        ) from error
    if not isinstance(loaded, type):
        raise ConfigError(f"the plug-in {offer.distribution} is broken: {offer.entry_point.value} is not a class")
    return loaded


def conflict(group: str, scheme: str) -> str:
    """What to say about several distributions that claim ``scheme``."""
    names = [offer.distribution for offer in offers(group)[scheme]]
    return (
        f"{' and '.join(names)} both claim the {_ROLES[group]} scheme {scheme!r}; "
        "uninstall all but one of them, or build the object yourself and hand it to Server(config, broker, backend, lock)"
    )


def _unknown(group: str, scheme: str) -> str:
    known = offers(group)
    if scheme in {"http", "https"}:
        advice = "such a URL is known by its host: https://sqs.<region>.amazonaws.com/<account> or https://dynamodb.<region>.…"
    elif distribution := DISTRIBUTIONS.get(scheme):
        elsewhere = any(scheme in offers(other) for other in GROUPS)
        advice = (
            f"{distribution} has none; use another service for it"
            if elsewhere
            else f"to get it: pip install {distribution}"
        )
    else:
        advice = f"is the URL right?{closest(scheme, {*known, *DISTRIBUTIONS})}"
    return (
        f"no installed distribution has a {_ROLES[group]} for {scheme}:// URLs; installed: {', '.join(known)}; {advice}"
    )


def installed_sections() -> dict[str, Section]:
    """The configuration sections of all installed plug-ins, by name. Imports them; skips those that cannot be imported."""
    return _by_name(section_of(offer) for offer in _every_offer())


def imported_sections() -> dict[str, Section]:
    """The configuration sections of the plug-ins that this process has imported, by name."""
    return _by_name(section_of(offer) for offer in _every_offer() if offer.entry_point.module in sys.modules)


def _every_offer() -> Iterator[Offer]:
    return (offer for group in GROUPS for claims in offers(group).values() for offer in claims)


def _by_name(sections: Iterable[Section | None]) -> dict[str, Section]:
    return {section.name: section for section in sections if section is not None}


def section_of(offer: Offer) -> Section | None:
    """The section that the offered class declares; ``None`` without one, or when it cannot be imported."""
    try:
        section = getattr(load_offer(offer), "section", None)
    except ConfigError:
        return None  # said when it is used, and by `machinery doctor`
    return section if isinstance(section, Section) else None
