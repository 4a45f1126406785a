"""Folder `x-y`, distribution `machinery-x-y`, package `machinery_x_y`: names, metadata and entry points agree."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = sorted(path.parent for path in ROOT.glob("packages/*/pyproject.toml"))

each_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)


def metadata(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))


def project(folder: Path) -> dict[str, Any]:
    table: dict[str, Any] = metadata(folder)["project"]
    return table


def package_name(folder: Path) -> str:
    return "machinery" if folder.name == "machinery-core" else "machinery_" + folder.name.replace("-", "_")


def test_the_design_has_eight_distributions() -> None:
    assert [folder.name for folder in FOLDERS] == [
        "backend-dynamodb",
        "backend-memcache",
        "backend-mongo",
        "broker-amqp",
        "broker-gcp",
        "broker-redis",
        "broker-sqs",
        "machinery-core",
    ]


@each_folder
def test_the_distribution_and_the_package_are_named_after_the_folder(folder: Path) -> None:
    expected = "machinery-core" if folder.name == "machinery-core" else f"machinery-{folder.name}"
    assert project(folder)["name"] == expected
    assert [path.name for path in (folder / "src").iterdir() if path.suffix != ".egg-info"] == [package_name(folder)]
    assert metadata(folder)["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == [f"src/{package_name(folder)}"]


@each_folder
def test_the_package_says_that_it_is_typed(folder: Path) -> None:
    assert (folder / "src" / package_name(folder) / "py.typed").read_bytes() == b""


@each_folder
def test_the_distribution_carries_licence_and_readme(folder: Path) -> None:
    assert project(folder)["license"] == "Apache-2.0"
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert (folder / "README.md").read_text("utf-8").startswith(f"# {project(folder)['name']}\n")
    assert project(folder)["requires-python"] == ">=3.11"


def test_core_needs_nothing_but_python() -> None:
    assert project(ROOT / "packages" / "machinery-core")["dependencies"] == []


@each_folder
def test_a_plug_in_needs_core(folder: Path) -> None:
    if folder.name != "machinery-core":
        assert project(folder)["dependencies"][0].startswith("machinery-core>=")


@each_folder
def test_entry_points_lead_into_the_package_itself(folder: Path) -> None:
    groups = project(folder).get("entry-points", {})
    assert set(groups) <= {"machinery.brokers", "machinery.backends", "machinery.locks"}
    for group in groups.values():
        for target in group.values():
            module = target.partition(":")[0]
            assert module == package_name(folder) or module.startswith(package_name(folder) + ".")
