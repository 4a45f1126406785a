"""The README's example, run as its reader would: its files in a folder, its commands in two processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(# (\w+\.py)(?:, continued)?\n.*?)^```$", README, re.MULTILINE | re.DOTALL)
FILES = {name: "\n".join(code for code, its_name in BLOCKS if its_name == name) for _, name in BLOCKS}
WORKER, SENDER, WORKFLOWS = "machinery worker app:server -c 10", "python send.py", "python workflows.py"


def test_every_python_block_is_a_part_of_a_file_that_is_run() -> None:
    assert README.count("```python") == len(BLOCKS)
    assert set(FILES) == {"app.py", "send.py", "workflows.py"}


def test_the_commands_that_are_run_and_what_they_print_are_those_that_are_shown() -> None:
    assert f"```sh\n{WORKER}\n{SENDER}\n```" in README
    assert "The second one prints `5`" in README
    assert f"`{WORKFLOWS}` prints `48`, `[2, 10]` and `20`" in README


@pytest.mark.parametrize("service", ["redis", "sqlite"])
def test_a_worker_in_one_terminal_answers_a_sender_in_another(
    service: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("redis_url") if service == "redis" else f"sqlite:///{tmp_path}/tasks.db"
    for name, code in FILES.items():
        (tmp_path / name).write_text(code.replace("redis://localhost:6379", url), "utf-8")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path}

    def run(command: str) -> tuple[str, str]:
        done = subprocess.run(
            command.split(), cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        return done.stdout, done.stderr

    with subprocess.Popen(WORKER.split(), cwd=tmp_path, env=environment) as worker:
        try:
            sent, workflows = run(SENDER), run(WORKFLOWS)
        finally:
            worker.terminate()

    assert sent == ("5\n", "")
    assert workflows == ("48\n[2, 10]\n20\n", "")
    assert worker.returncode == 0
