"""The workshop keeps its own rules: reasons beside ignores, one pin per tool, every decision in the index."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYPROJECT = (ROOT / "pyproject.toml").read_text("utf-8")
RUFF = PYPROJECT[PYPROJECT.index("[tool.ruff.lint]") : PYPROJECT.index("[tool.ruff.lint.flake8-annotations]")]


def test_every_ignored_rule_has_its_reason_beside_it() -> None:
    codes = re.findall(r'^ {4}"[A-Z]+[0-9]*",(.*)$', RUFF, re.MULTILINE)
    assert codes
    assert all(re.match(r" +# \w.+", rest) for rest in codes)
    # None hides on a line of another shape.
    lint = tomllib.loads(PYPROJECT)["tool"]["ruff"]["lint"]
    assert len(codes) == len(lint["ignore"]) + sum(map(len, lint["per-file-ignores"].values()))


def test_the_root_describes_no_distribution() -> None:
    assert "project" not in tomllib.loads(PYPROJECT)


def test_tools_are_pinned() -> None:
    for group in tomllib.loads(PYPROJECT)["dependency-groups"].values():
        assert all("==" in requirement for requirement in group if isinstance(requirement, str))


def test_mypy_and_import_linter_see_every_package() -> None:
    tool = tomllib.loads(PYPROJECT)["tool"]
    sources = sorted(ROOT.glob("packages/*/src"))
    assert {f"$MYPY_CONFIG_FILE_DIR/{path.relative_to(ROOT)}" for path in sources} < set(tool["mypy"]["mypy_path"])
    packages = {path.name for source in sources for path in source.iterdir() if (path / "__init__.py").exists()}
    assert set(tool["importlinter"]["root_packages"]) == packages


def test_every_decision_is_in_the_index() -> None:
    index = (ROOT / "docs" / "adr" / "README.md").read_text("utf-8")
    decisions = sorted(path.name for path in (ROOT / "docs" / "adr").glob("[0-9]*.md"))
    assert [name[:4] for name in decisions] == [f"{number:04}" for number in range(1, len(decisions) + 1)]
    assert re.findall(r"\]\((\d{4}-[a-z0-9-]+\.md)\)", index) == decisions


def test_every_changelog_fragment_is_of_a_known_kind() -> None:
    kinds = {kind["directory"] for kind in tomllib.loads(PYPROJECT)["tool"]["towncrier"]["type"]}
    for fragment in (ROOT / "changes").glob("*.md"):
        if fragment.name != "README.md":
            assert fragment.suffixes[-2].lstrip(".") in kinds, fragment.name


@pytest.mark.parametrize("target", ["help", "demo", "test", "test-all", "ci", "check", "bench", "dist"])
def test_make_knows_the_target(target: str) -> None:
    assert re.search(rf"^{target}:.*## \w", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
