"""Finds an application's server by name: ``module:attribute``, or a service's URL for a server without tasks."""

from __future__ import annotations

import importlib
import sys
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
        raise ConfigError(f"importing {module_name!r} failed: {error}") from error
    except Exception as error:
        raise ConfigError(f"importing {module_name!r} failed: {type(error).__name__}: {error}") from error
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ConfigError(f"the module {module_name!r} has no {attribute!r}") from None
    if not isinstance(found, Server):
        raise ConfigError(f"{target} is {type(found).__name__}, not a machinery.Server")
    return found
