"""pymemcache's exceptions and Memcached's error answers, translated in one table.

=========================================================  ===========================================================
what pymemcache raises, or Memcached answers               becomes
=========================================================  ===========================================================
no connection, connection lost, no answer in time, too     `BackendUnavailable`: trying again later is right
many connections, no memory left, another error of the
server's
it wants a password, TLS refused, what is no answer of     `ConfigError`: waiting will not help
Memcached's
anything else                                              `Unsupported`, with Memcached's own words
=========================================================  ===========================================================

That an item is too large is for whoever stores it to say. The texts keep Memcached's, so what is raised is raised ``from None``.
"""

from __future__ import annotations

import ssl

from pymemcache import exceptions as driver

from machinery.errors import BackendUnavailable, ConfigError, MachineryError, Unsupported

DRIVER_ERRORS = (driver.MemcacheError, OSError, RuntimeError)
"""All that a call of pymemcache may raise: its own, the system's, and its pool's when all connections are in use."""


def translate(error: BaseException, address: str) -> MachineryError:  # noqa: PLR0911 - one line of the table each
    """What to raise instead of ``error``. ``address``: of the server concerned."""
    text = _text_of(error)
    if isinstance(error, driver.MemcacheUnexpectedCloseError):
        return BackendUnavailable(f"memcached at {address} closed the connection; it was stopped or has restarted")
    if isinstance(error, driver.MemcacheServerError):
        return unable(text, address)
    if isinstance(error, driver.MemcacheUnknownCommandError) and text == "version":
        return BackendUnavailable(f"memcached at {address} has too many connections; raise its limit (-c)")
    if isinstance(error, driver.MemcacheUnknownError):
        return ConfigError(f"what answers at {address} does not speak memcached's text protocol ({text})")
    if isinstance(error, driver.MemcacheClientError) and "unauthenticated" in text:
        return ConfigError(
            f"memcached at {address} wants a user name and a password, which Go Machinery cannot give and we do not; "
            "start it without -Y and -S, and keep strangers out by the network"
        )
    if isinstance(error, driver.MemcacheError):
        return Unsupported(f"memcached at {address} refuses: {text}")
    if isinstance(error, ssl.SSLCertVerificationError):
        return ConfigError(f"memcached at {address}: TLS failed ({text}); see the client's tls_context")
    if isinstance(error, TimeoutError):
        return BackendUnavailable(
            f"memcached at {address} does not answer ({text}); is it overloaded, or out of reach?"
        )
    if isinstance(error, OSError):
        return BackendUnavailable(f"cannot reach memcached at {address}: {text}; is it running?")
    return BackendUnavailable(f"all connections to memcached at {address} are in use: {text}; raise max_pool_size")


def unable(answer: bytes | str, address: str) -> MachineryError:
    """What to raise for an answer that begins with ``SERVER_ERROR``."""
    text = answer.decode(errors="replace") if isinstance(answer, bytes) else answer
    if "out of memory" in text:
        return BackendUnavailable(
            f"memcached at {address} has no memory left and found nothing to throw out ({text}); raise -m"
        )
    return BackendUnavailable(f"memcached at {address} cannot do it now: {text}")


def _text_of(error: BaseException) -> str:
    first = error.args[0] if error.args else ""
    return first.decode(errors="replace") if isinstance(first, bytes) else str(error) or type(error).__name__
