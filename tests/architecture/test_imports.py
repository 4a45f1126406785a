"""Who may import whom, read from the sources. The layers inside core are import-linter's (pyproject.toml)."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGES = Path(__file__).parents[2] / "packages"
CORE = PACKAGES / "machinery-core" / "src" / "machinery"
PUBLIC = {"machinery", "machinery.abc", "machinery.errors", "machinery.wire", "machinery.testing"}

# A module of core that may import what an extra installs, and what that is.
EXTRAS = {"_config_files.py": {"yaml"}}

PLUG_INS = sorted(path for path in PACKAGES.glob("*/src/machinery_*") if path.is_dir())


def imported_modules(source: str, package: str) -> Iterator[str]:
    """Every module that a file of `package` imports, wherever in the file, as absolute names."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            prefix = ".".join(parents[: len(parents) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (prefix, node.module)))
            yield module
            # `from machinery import _worker` imports a module too. Only a name that *is* one counts.
            yield from (f"{module}.{alias.name}" for alias in node.names if is_core_module(f"{module}.{alias.name}"))


def is_core_module(name: str) -> bool:
    head, *rest = name.split(".")
    path = CORE.joinpath(*rest)
    return head == "machinery" and (path.with_suffix(".py").is_file() or (path / "__init__.py").is_file())


def modules_under(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    for path in sorted(folder.rglob("*.py")):
        package = ".".join(path.relative_to(folder.parent).parent.parts)
        yield path.relative_to(folder), list(imported_modules(path.read_text("utf-8"), package))


def is_public(module: str) -> bool:
    return module in PUBLIC or module.startswith("machinery.testing.")


def test_core_imports_the_standard_library_alone() -> None:
    offences = [
        f"{path} imports {module}"
        for path, modules in modules_under(CORE)
        for module in modules
        if (top := module.partition(".")[0]) not in sys.stdlib_module_names | {"machinery"}
        and top not in EXTRAS.get(path.as_posix(), ())
    ]
    assert not offences


def test_an_extra_of_core_is_imported_where_it_is_used_and_not_with_core() -> None:
    for name, extras in EXTRAS.items():
        path = CORE / name
        body = ast.parse(path.read_text("utf-8")).body if path.exists() else []
        at_import = {
            alias.name.partition(".")[0] for node in body if isinstance(node, ast.Import) for alias in node.names
        }
        assert not at_import & extras, f"{name} imports an extra unconditionally"


@pytest.mark.parametrize("plug_in", PLUG_INS, ids=lambda path: path.name)
def test_a_plug_in_imports_only_the_public_modules_of_core(plug_in: Path) -> None:
    offences = [
        f"{path} imports {module}"
        for path, modules in modules_under(plug_in)
        for module in modules
        if module.partition(".")[0] == "machinery" and not is_public(module)
    ]
    assert not offences


@pytest.mark.parametrize("plug_in", PLUG_INS, ids=lambda path: path.name)
def test_a_plug_in_never_imports_another(plug_in: Path) -> None:
    others = {path.name for path in PLUG_INS} - {plug_in.name}
    offences = [
        f"{path} imports {module}"
        for path, modules in modules_under(plug_in)
        for module in modules
        if module.partition(".")[0] in others
    ]
    assert not offences


def test_nothing_under_packages_imports_pytest() -> None:
    offences = [
        f"{path} imports {module}"
        for folder in (CORE, *PLUG_INS)
        for path, modules in modules_under(folder)
        for module in modules
        if module.partition(".")[0] in {"pytest", "_pytest"}
    ]
    assert not offences


def test_every_form_of_import_is_seen() -> None:
    source = """
import a.b
from . import c
from .d import e
from ..f import g
def function():
    from machinery import abc
"""
    assert set(imported_modules(source, "p.q")) == {"a.b", "p.q", "p.q.d", "p.f", "machinery", "machinery.abc"}
