"""A plug-in's own section of the configuration: what it declares, and how its contents become its options."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_type_hints

from machinery._settings import closest, to_setting
from machinery.errors import ConfigError

Options = TypeVar("Options")


@dataclass(frozen=True, slots=True)
class Section:
    """How a plug-in is configured: its own section of a configuration file, which it parses itself (`parse_section`)."""

    name: str
    """The section's name in YAML and TOML, such as ``redis``."""
    keys: frozenset[str] = frozenset()
    """Every key that the section may hold; another is a `ConfigError`. Empty: the fields of ``options``."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Environment variable → key of the section (Go's names)."""
    options: type[Any] | None = None
    """The dataclass that the section becomes. With it, a reloaded file whose section is wrong is refused as a whole."""

    def known_keys(self) -> frozenset[str]:
        """``keys``, or the fields of ``options`` where there are none."""
        if self.keys or self.options is None:
            return self.keys
        return frozenset(named.name for named in dataclasses.fields(self.options) if named.init)

    def label(self, key: str) -> str:
        """How errors call ``key``: with its section and its environment variables."""
        variables = [variable for variable, named in self.environment.items() if named == key]
        return f"{self.name}.{key}" + (f" ({', '.join(variables)})" if variables else "")


def parse_contents(section: Section, options: type[Options], *layers: tuple[str, Mapping[str, Any]]) -> Options:
    """``options`` made of a section's contents; keys left out or null keep their defaults. Raises `ConfigError`.

    A layer is where contents stand, for errors, and the contents; a later layer wins. Values may be text that says a number, a
    flag, a list or a table (from the environment or a URL).
    """
    hints = get_type_hints(options)
    parsed: dict[str, Any] = {}
    for origin, contents in layers:
        for key, value in contents.items():
            require_known(key, section, origin)
            if value is not None:
                label = f"{origin}: {section.label(key)}"
                parsed[key] = to_setting(value, hints.get(key, Any), key, label, from_text=True)
    try:
        return options(**parsed)
    except ValueError as error:
        raise ConfigError(f"{' or '.join(origin for origin, _ in layers)}: section {section.name}: {error}") from error


def require_known(key: str, section: Section, origin: str) -> None:
    """Raise `ConfigError` where ``section`` has no such ``key``."""
    known = section.known_keys()
    if key not in known:
        raise ConfigError(
            f"{origin}: section {section.name} has no key {key!r}{closest(key, known)}; it takes {', '.join(sorted(known))}"
        )
