"""URLs of services: taken apart, resolved to a scheme, and safe to show.

`redact_url` is what every log line, repr and error text puts a URL through. When in doubt it hides too much rather than too
little: a lone user part is hidden because Redis takes it for the password, and everything up to the last ``@`` counts as
credentials because passwords are pasted unencoded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

from machinery.errors import ConfigError

HIDDEN = "***"
"""What stands in the place of a secret."""

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE | re.ASCII)
_SECRET_NAME = re.compile(
    r"pass(?!ive)|pwd|token|secret|credential|auth_?mechanism_?properties|(api|access|private|account|shared)_?key",
    re.IGNORECASE,
)
_PARAMETER = re.compile(r"([?&;])([^=&;?]*)=([^&]*)")
_PARAMETERS_BEGIN = re.compile(r"\?[\w.+%-]+=")
_PATH_SCHEMES = frozenset({"file", "redis+socket", "sqlite", "unix"})
_SCHEMES_BY_HOST = ("sqs", "dynamodb")
_BARE_SCHEMES = frozenset({"eager", "memory", "null"})
_NEEDS_SCHEME = "a URL begins with a scheme, such as redis://localhost:6379 or sqlite:///tasks.db"


@dataclass(frozen=True, slots=True)
class ServiceUrl:
    """A URL taken apart. ``str`` and ``repr`` show it redacted."""

    scheme: str
    """In lower case."""
    user: str | None = None
    """Percent-decoded. A lone user part stands here, even where (Redis) it is the password."""
    password: str | None = None
    """Percent-decoded; ``""`` for ``user:@``, ``None`` without a colon."""
    hosts: tuple[tuple[str, int | None], ...] = ()
    """Host and port (``None`` when left out) in the order written; empty for ``scheme:///path``. IPv6 without brackets."""
    path: str = ""
    """Percent-decoded, with its leading slash."""
    query: Mapping[str, str] = field(default_factory=dict)
    """Percent-decoded; of a repeated parameter the last."""
    redacted: str = ""
    """The whole URL without its secrets, for logs and errors."""

    def __str__(self) -> str:
        return self.redacted

    def __repr__(self) -> str:
        return f"ServiceUrl({self.redacted!r})"


def parse_url(url: str) -> ServiceUrl:
    """``url`` taken apart. Raises `ConfigError` where it has no scheme, an impossible port or a host that is missing."""
    shown = redact_url(url)
    found = _SCHEME.match(url.strip())
    if found is None:
        raise ConfigError(f"the URL {shown!r} has no scheme; {_NEEDS_SCHEME}")
    rest, _, fragment = url.strip()[found.end() :].partition("#")
    if "@" in fragment:
        raise ConfigError(f"the URL {shown!r} has a '#' before its '@'; write it as %23 in a user name or password")
    rest, _, query = rest.partition("?")
    authority, slash, path = rest.partition("/")
    credentials, has_credentials, addresses = authority.rpartition("@")
    user, has_password, password = credentials.partition(":")
    return ServiceUrl(
        scheme=found[1].lower(),
        user=unquote(user) if has_credentials else None,
        password=unquote(password) if has_password else None,
        hosts=tuple(_parse_address(address, shown) for address in addresses.split(",")) if addresses else (),
        path=unquote(slash + path),
        query=dict(parse_qsl(query, keep_blank_values=True)),
        redacted=shown,
    )


def _parse_address(address: str, shown: str) -> tuple[str, int | None]:
    found = re.fullmatch(r"(?:\[([^\]]+)\]|([^:\[\]]+))(?::(\d+))?", address.strip(), re.ASCII)
    port = int(found[3]) if found and found[3] else None
    if found is None or (port is not None and port > 65_535):  # noqa: PLR2004 - the largest TCP port
        raise ConfigError(
            f"the URL {shown!r} has an address that is not host or host:port; "
            "if its user name or password contains any of / ? # @ : % write these percent-encoded (/ is %2F)"
        )
    return found[1] or found[2], port


def scheme_of(url: object) -> str:
    """The scheme that decides which plug-in serves ``url``. Raises `ConfigError` where there is none.

    Amazon's services are known by their host, as in Go: ``https://sqs.eu-west-1.amazonaws.com/123`` is ``sqs``. Go's bare
    ``eager`` and ``null`` are schemes too.
    """
    if not isinstance(url, str):
        raise ConfigError(f"a URL is text, not {type(url).__name__}; {_NEEDS_SCHEME}")
    text = url.strip()
    if text.lower() in _BARE_SCHEMES:
        return text.lower()
    found = _SCHEME.match(text)
    if found is None:
        raise ConfigError(f"{_missing(text)}; {_NEEDS_SCHEME}")
    scheme = found[1].lower()
    if scheme in {"http", "https"}:
        authority = re.split(r"[/?#]", text[found.end() :], maxsplit=1)[0]
        host = authority.rpartition("@")[2].partition(":")[0].lower()
        for service in _SCHEMES_BY_HOST:
            if host.startswith(service) or service in host.split("."):
                return service
    return scheme


def _missing(text: str) -> str:
    return f"the URL {redact_url(text)!r} has no scheme" if text else "the URL is empty"


def redact_url(url: object) -> str:
    """``url`` with every password and secret parameter replaced by ``***``. Never raises; takes several URLs in one text."""
    if not isinstance(url, str):
        return "" if url is None else f"<{type(url).__name__}>"
    shown: list[str] = []
    rest = url
    while found := _next_url(rest):
        shown.append(_redact_one(rest[:found]))
        rest = rest[found:]
    return "".join([*shown, _redact_one(rest)])


def _next_url(text: str) -> int:
    """Where a second URL begins in ``text`` (``amqp://a:b@h1;amqp://a:b@h2``); 0: nowhere. One with an ``@`` before it only."""
    for found in _SCHEME.finditer(text):
        if "@" in text[: found.start()]:
            return found.start()
    return 0


def _redact_one(text: str) -> str:
    found = _SCHEME.match(text.lstrip())
    scheme = found[0] if found else ""
    start = text.find(scheme) + len(scheme)
    lead, rest = text[:start], text[start:]
    if not (rest.startswith("/") and found and found[1].lower() in _PATH_SCHEMES):
        parameters = _PARAMETERS_BEGIN.search(rest)
        end = rest.rfind("@", 0, parameters.start() if parameters else len(rest))
        if end < 0:
            end = rest.rfind("@")
        if end >= 0:
            user, has_password, _ = rest[:end].partition(":")
            rest = f"{user}:{HIDDEN}{rest[end:]}" if has_password else HIDDEN + rest[end:]
    return lead + _PARAMETER.sub(_redact_parameter, rest)


def _redact_parameter(found: re.Match[str]) -> str:
    return f"{found[1]}{found[2]}={HIDDEN if is_secret_name(unquote(found[2])) else found[3]}"


def is_secret_name(name: object) -> bool:
    """Whether a setting or parameter of that name holds a secret."""
    return isinstance(name, str) and _SECRET_NAME.search(name) is not None


def redact_value(name: object, value: Any) -> Any:
    """A setting's value, safe to show: hidden where its name says so, URLs redacted, in nested mappings and lists too."""
    if is_secret_name(name) and value not in (None, "", False):
        return HIDDEN
    if isinstance(value, str):
        return redact_url(value) if "://" in value or "@" in value else value
    if isinstance(value, Mapping):
        return {key: redact_value(key, inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [redact_value(name, inner) for inner in value]
    return value
