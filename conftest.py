"""What every test run shares: the documentation's examples as tests, and a run without a test is a failed run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

# The blocks of one page run in order and share their names. The README's are files of their own: tests/examples.
pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser()],
    path="docs",
    pattern="*.md",
).pytest()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run in which every test was skipped: it has shown nothing."""
    if session.exitstatus != pytest.ExitCode.OK or session.config.option.collectonly:
        return
    reporter: TerminalReporter = session.config.pluginmanager.getplugin("terminalreporter")
    if not reporter.stats.get("passed") and not reporter.stats.get("xfailed"):
        session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
