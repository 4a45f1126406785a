"""Brokers, backends and locks for URLs, from whatever distributions are installed; and what `machinery doctor` says of these.

Entry-point groups ``machinery.brokers``, ``machinery.backends``, ``machinery.locks``: the name is the URL scheme, the value a
class of `machinery.abc` with ``from_url(url, config)``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from machinery._config import Config, check_section
from machinery._entry_points import (
    BACKENDS,
    BROKERS,
    GROUPS,
    LOCKS,
    SECTION_DISTRIBUTIONS,
    conflict,
    installed_sections,
    load_class,
    load_offer,
    offers,
)
from machinery._settings import closest
from machinery._urls import scheme_of
from machinery.abc import Backend, Broker, Finding, Lock
from machinery.errors import ConfigError

_ROLES: Mapping[str, type[Any]] = {BROKERS: Broker, BACKENDS: Backend, LOCKS: Lock}


def load_broker(url: str, config: Config) -> Broker:
    """The broker for ``url``. Does not connect.

    Raises `UnknownScheme` (naming what is installed and what to install), `SchemeConflict`, or `ConfigError` for a URL or section
    that is wrong and for a plug-in that cannot be imported.
    """
    broker: Broker = _load(BROKERS, url, config)
    return broker


def load_backend(url: str, config: Config) -> Backend:
    """The result backend for ``url``. Raises as `load_broker` does."""
    backend: Backend = _load(BACKENDS, url, config)
    return backend


def load_lock(url: str, config: Config) -> Lock:
    """The lock for ``url``. Raises as `load_broker` does."""
    lock: Lock = _load(LOCKS, url, config)
    return lock


def has_backend(scheme: str) -> bool:
    """Whether an installed distribution has a result backend for the scheme."""
    return scheme in offers(BACKENDS)


def has_lock(scheme: str) -> bool:
    """Whether an installed distribution has a lock for the scheme."""
    return scheme in offers(LOCKS)


def plugin_commands(service: str) -> Mapping[str, Callable[[Sequence[str]], int]] | None:
    """The commands of the plug-in for a service, named as its distribution ends: ``dynamodb``, ``sqs``, ``gcp``.

    ``None`` where none of that name is installed. Raises `ConfigError` when it cannot be imported.
    """
    every = {offer: None for group in GROUPS for claims in offers(group).values() for offer in claims}
    classes = [load_offer(each) for each in every if each.distribution.endswith(f"-{service}")]
    if not classes:
        return None
    return {name: function for each in classes for name, function in getattr(each, "commands", {}).items()}


def _load(group: str, url: str, config: Config) -> Any:
    scheme = scheme_of(url)
    loaded = load_class(group, scheme)
    role = _ROLES[group]
    if not issubclass(loaded, role):
        distribution = offers(group)[scheme][0].distribution
        raise ConfigError(
            f"the plug-in {distribution} is broken: {loaded.__module__}.{loaded.__qualname__}, which it offers for "
            f"{scheme}:// URLs, is no machinery.abc.{role.__name__}"
        )
    return loaded.from_url(url.strip(), config)


def describe_installation(config: Config) -> list[Finding]:
    """What is installed and what is wrong with it, without connecting anywhere."""
    return [*_plugins(), *_conflicts(), *_sections(config)]


def _plugins() -> Iterator[Finding]:
    """A line for every distribution, and an error for every one that cannot be imported."""
    every = {offer: None for group in GROUPS for claims in offers(group).values() for offer in claims}
    schemes: dict[tuple[str, str], set[str]] = {}
    broken: set[str] = set()
    for offer in every:
        schemes.setdefault((offer.distribution, offer.version), set()).add(offer.entry_point.name)
        try:
            load_offer(offer)
        except ConfigError as error:
            broken.add(str(error))
    for (distribution, version), served in sorted(schemes.items()):
        yield Finding("ok", f"{f'{distribution} {version}'.strip()} serves {', '.join(sorted(served))}")
    for text in sorted(broken):
        yield Finding("error", text)


def _conflicts() -> Iterator[Finding]:
    for group in GROUPS:
        for scheme, claims in offers(group).items():
            if len(claims) > 1:
                yield Finding("error", conflict(group, scheme))


def _sections(config: Config) -> Iterator[Finding]:
    """Sections that nobody reads, and those that their plug-in would refuse."""
    installed = installed_sections()
    for name in config.sections:
        if name in installed:
            try:
                check_section(installed[name], config)
            except ConfigError as error:
                yield Finding("error", str(error))
        elif distribution := SECTION_DISTRIBUTIONS.get(name):
            yield Finding(
                "warning",
                f"the section {name} has no effect: its plug-in is not installed (pip install {distribution})",
            )
        else:
            yield Finding(
                "warning", f"the section {name} has no effect: no installed plug-in reads it{closest(name, installed)}"
            )
