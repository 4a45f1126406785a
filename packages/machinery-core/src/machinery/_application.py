"""Finds an application's server by name: ``module:attribute``, or a service's URL for a server without tasks."""

from __future__ import annotations

import importlib
import sys
import sysconfig
import traceback
from pathlib import Path

from machinery._server import Server
from machinery.errors import ConfigError


def load_server(target: str) -> Server:
    """The server that ``target`` names; its module is looked for in the current folder, too. Raises `ConfigError`."""
    if "://" in target:
        return Server.from_url(target)
    module_name, colon, attribute = target.partition(":")
    if not colon or not module_name or not attribute:
        raise ConfigError(f"{target!r} names no server; write module:attribute, such as app:server, or a URL")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: object = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(error.name + ".")):
            raise ConfigError(f"there is no module {module_name!r} in {here} or on the Python path") from error
        raise ConfigError(f"importing {module_name!r} failed: {error}{_where(error)}") from error
    except Exception as error:
        raise ConfigError(
            f"importing {module_name!r} failed: {type(error).__name__}: {error}{_where(error)}"
        ) from error
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ConfigError(f"the module {module_name!r} has no {attribute!r}") from None
    if not isinstance(found, Server):
        raise ConfigError(f"{target} is {type(found).__name__}, not a machinery.Server")
    return found


def _where(error: Exception) -> str:
    """The line of the application where importing it went wrong: the innermost that is nobody else's."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({error.filename}:{error.lineno})"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    own = [frame for frame in frames if not any(Path(frame.filename).is_relative_to(place) for place in _NOT_OURS)]
    last = (own or frames)[-1]
    return f" ({last.filename}:{last.lineno})"


_NOT_OURS = {Path(__file__).parent, *(Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib"))}
"""Machinery, Python and what is installed: a line there does not tell the application's author much."""
