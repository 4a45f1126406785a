"""redis-py's exceptions and Redis's error replies, translated in one table.

========================================================  ============================================================
what redis-py raises, or the code a reply begins with     becomes
========================================================  ============================================================
no connection, no answer in time, LOADING, MASTERDOWN,    the `Unavailable` error of the one who asked: trying again later
READONLY, CLUSTERDOWN, TRYAGAIN, MOVED or ASK on a        is right, Redis is starting, failing over, resharding or full
cluster, OOM, MISCONF, NOREPLICAS, BUSY, slots uncovered
WRONGPASS, NOAUTH, NOPERM, TLS refused, database out of   `ConfigError`: waiting will not help
range, MOVED on a single node, WRONGTYPE, no cluster,
what is no reply of Redis's
anything else                                             `Unsupported`, with Redis's own words
========================================================  ============================================================

The texts keep redis-py's, so what is raised is raised ``from None``: a traceback through redis-py would say no more, and a
worker that tries again and again would print it again and again.
"""

from __future__ import annotations

import re
import ssl

from redis import exceptions as driver

from machinery.errors import ConfigError, MachineryError, Unavailable, Unsupported

DRIVER_ERRORS = (driver.RedisError, driver.RedisClusterException, OSError)
"""All that a call of redis-py may raise."""

LOST = (driver.ConnectionError, driver.TimeoutError, OSError)
"""Those after which it is not known whether the call was carried out."""

_TRANSIENT = (
    driver.BusyLoadingError,
    driver.ClusterError,
    driver.TryAgainError,
    driver.OutOfMemoryError,
    driver.SlotNotCoveredError,
)
_TRANSIENT_CODES = re.compile(
    r"\b(OOM|MISCONF|NOREPLICAS|LOADING|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|BUSY|UNKILLABLE|UNBLOCKED)\b"
)
_REPLICA = re.compile("READONLY|read only replica|previous master is now a slave")
_REPRESENTATION = re.compile(r"<[\w.]*Redis\(.*?\bhost=([^,)>]+),port=(\d+).*?>(?= - )")
"""Of one of redis-py's clients, which it puts into texts about Sentinels: a page that tells an address."""
_REDIRECTED = re.compile(r"\b(MOVED|ASK)\b")
_HINTS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile("WRONGPASS|invalid username-password", re.IGNORECASE), "the user name or password is wrong"),
    (re.compile("NOAUTH|Authentication required", re.IGNORECASE), "it wants a password; put one into the URL"),
    (re.compile("without any password configured|no password is set"), "it has no password; leave it out of the URL"),
    (re.compile("NOPERM|no permissions|has no permission"), "its ACL does not allow this user what is needed"),
    (re.compile("DB index|invalid DB|Invalid Database"), "it has no database of that number"),
    (re.compile("WRONGTYPE"), "a key of that name holds something else; use another name or database"),
    (re.compile("[Cc]luster mode is not enabled|cluster support disabled"), "it is no cluster; give one address only"),
    (re.compile("not allowed in cluster mode"), "a cluster has only database 0"),
    (
        re.compile("unknown command [`']SENTINEL"),
        "it is no Sentinel; leave redis.master_name out, or give Sentinels' addresses",
    ),
)


def translate(  # noqa: C901, PLR0911 - one line of the table each
    error: BaseException, unavailable: type[Unavailable], address: str
) -> MachineryError:
    """What to raise instead of ``error``. ``address`` is the service's redacted URL."""
    text = _REPRESENTATION.sub(r"\1:\2", str(error)) or type(error).__name__
    if isinstance(error, driver.MovedError) or text.startswith("MOVED "):
        return ConfigError(
            f"{address} is a node of a Redis cluster; give several addresses or set redis.cluster_enabled ({text})"
        )
    if isinstance(error, driver.InvalidResponse):
        return ConfigError(f"what answers at {address} does not speak Redis's protocol ({text})")
    if trouble := _passing_trouble(error, text):
        return unavailable(f"Redis at {address} {trouble}: {text}")
    if isinstance(error, driver.AuthenticationError | driver.AuthorizationError | driver.NoPermissionError):
        return ConfigError(f"Redis at {address} refuses us: {_hint(_with_code(error, text))} ({text})")
    for pattern, hint in _HINTS:
        if pattern.search(text):
            return ConfigError(f"Redis at {address}: {hint} ({text})")
    if _is_refused_tls(error):
        return ConfigError(
            f"Redis at {address}: TLS failed ({text}); name the authority in redis.tls_ca_file, or, for a test only, "
            "switch verification off with redis.tls_verify"
        )
    if isinstance(error, LOST):
        return unavailable(f"cannot reach Redis at {address}: {text}")
    if _TRANSIENT_CODES.search(text):
        return unavailable(f"Redis at {address} is not ready: {text}")
    if isinstance(error, driver.RedisClusterException):
        return unavailable(f"cannot reach the Redis cluster at {address}: {text}")
    return Unsupported(f"Redis at {address} refuses: {text}")


def _passing_trouble(error: BaseException, text: str) -> str:
    if isinstance(error, driver.ReadOnlyError) or _REPLICA.search(text):
        return "is a replica now, which takes no tasks"
    return "is not ready" if isinstance(error, _TRANSIENT) else ""


def is_redirection(error: BaseException) -> bool:
    """Whether a cluster's node sent us elsewhere, or has to settle first."""
    return isinstance(error, driver.AskError | driver.TryAgainError | driver.ClusterDownError) or (
        isinstance(error, driver.ResponseError) and _REDIRECTED.search(str(error)) is not None
    )


def _with_code(error: BaseException, text: str) -> str:
    return f"{getattr(error, 'status_code', None) or ''} {text}"


def _hint(text: str) -> str:
    return next((hint for pattern, hint in _HINTS if pattern.search(text)), "the credentials are wrong")


def _is_refused_tls(error: BaseException) -> bool:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return True
        seen = seen.__cause__ or seen.__context__
    return "CERTIFICATE_VERIFY_FAILED" in str(error)
