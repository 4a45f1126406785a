"""The documentation says what the code has. Its Python blocks are run by the collector in the root `conftest.py`."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

import machinery
from machinery import (
    AsyncResult,
    ChainResult,
    ChordResult,
    Config,
    GroupResult,
    Server,
    Task,
    Worker,
    _cli,
    errors,
)
from machinery._task import TaskContext
from machinery._task_options import RunOptions, TaskOptions
from machinery.abc import Section

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]


def words(path: Path) -> set[str]:
    """The names in a page's code spans and blocks."""
    spans = re.findall(r"```.*?```|`[^`]+`", path.read_text("utf-8"), re.DOTALL)
    return {word for span in spans for word in re.findall(r"[\w-]+", span)}


def public(thing: type) -> set[str]:
    return {name for name in vars(thing) if not name.startswith("_")}


def commands() -> dict[str, argparse.ArgumentParser]:
    parser, _ = _cli._parser()
    actions = parser._actions
    (found,) = [action.choices for action in actions if isinstance(action, argparse._SubParsersAction)]
    return dict(found)


def test_the_api_page_has_every_public_name() -> None:
    names = set(machinery.__all__) - {"__version__"}
    assert names - words(DOCS / "reference" / "api.md") == set()


@pytest.mark.parametrize(
    "thing",
    [Server, AsyncResult, ChainResult, ChordResult, GroupResult, Worker, Task, TaskContext, TaskOptions, RunOptions],
)
def test_the_api_page_has_every_public_member(thing: type) -> None:
    internal = {"registry", "sender", "parameters", "is_async", "task_options", "run_options"}
    assert public(thing) - internal - words(DOCS / "reference" / "api.md") == set()


def test_the_readme_names_nothing_that_is_not_there() -> None:
    rows = re.findall(
        r"^\| `(Server|Task|AsyncResult|Worker)` \| (.*) \|$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE
    )
    assert [name for name, _ in rows] == ["Server", "Task", "AsyncResult", "Worker"]
    for name, text in rows:
        thing = getattr(machinery, name)
        known = public(thing) | {field.name for field in fields(TaskOptions)} | {"uuid"}
        assert set(re.findall(r"`(\w+)`", text)) - known == set(), name


def test_the_errors_page_has_every_error() -> None:
    assert set(errors.__all__) - words(DOCS / "reference" / "errors.md") == set()


def test_the_command_line_page_has_every_command_and_option() -> None:
    page = words(DOCS / "reference" / "cli.md")
    known = commands()
    assert set(known) - page == set()
    for command in known.values():
        options = {
            name for action in command._actions for name in action.option_strings if action.help != argparse.SUPPRESS
        }
        assert options - {"-h", "--help", "--limit"} - page == set()


def test_the_configuration_page_has_every_key() -> None:
    keys = {field.name for field in fields(Config)} - {"origin", "source"}
    assert keys - words(DOCS / "reference" / "configuration.md") == set()


@pytest.mark.parametrize(
    ("package", "page"),
    [
        ("machinery_backend_dynamodb", "dynamodb"),
        ("machinery_backend_memcache", "memcached"),
        ("machinery_backend_mongo", "mongodb"),
        ("machinery_broker_amqp", "rabbitmq"),
        ("machinery_broker_redis", "redis"),
    ],
)
def test_a_services_page_has_every_key_and_variable_of_its_section(package: str, page: str) -> None:
    options = pytest.importorskip(f"{package}._options", reason="needs the service's driver", exc_type=ImportError)
    (section,) = [each for each in vars(options).values() if isinstance(each, Section)]
    names = section.known_keys() | set(section.environment)
    assert names - words(DOCS / "reference" / f"{page}.md") == set()


def links() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if not target.startswith("https://"):
                yield page, target


def anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.strip().lower()).replace(" ", "-")


def test_every_link_leads_somewhere() -> None:
    broken = []
    for page, target in links():
        path, _, fragment = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists():
            broken.append(f"{page.relative_to(ROOT)}: {target}")
        elif fragment:
            headings = re.findall(r"^#+ (.*)$", file.read_text("utf-8"), re.MULTILINE)
            if fragment not in map(anchor, headings):
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert broken == []


def test_every_page_is_listed() -> None:
    listed = {(DOCS / target).resolve() for page, target in links() if page == DOCS / "README.md"}
    pages = {page for page in DOCS.rglob("*.md") if page.name != "README.md" and page.parent.name != "adr"}
    assert pages - listed == set()


def test_every_python_block_of_the_documentation_is_run() -> None:
    # What the collector of the root conftest.py does not see is not run: it takes ```python at the start of a line.
    for page in DOCS.rglob("*.md"):
        text = page.read_text("utf-8")
        assert len(re.findall(r"^ *[`~]{3,} *(?:py\w*|pycon)", text, re.MULTILINE)) == len(
            re.findall(r"^```python$", text, re.MULTILINE)
        ), page
