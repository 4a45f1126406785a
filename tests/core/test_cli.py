"""The command line, each command in this process, and ``machinery worker`` as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from machinery import Reject, Server, __version__
from machinery._cli import main
from machinery.abc import Finding, Message
from machinery.errors import BackendUnavailable, BrokerUnavailable
from tests.interop.eventually import eventually

APPLICATION = """
import os
from machinery import Reject, Server

server = Server.from_url(os.environ["APPLICATION_URL"])

@server.task
def add(a: int, b: int) -> int:
    return a + b

@server.task
def bad() -> None:
    raise Reject("no good")

class Nested:
    server = server
"""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An application in the current folder; its name on the command line."""
    (tmp_path / "application_of_cli.py").write_text(APPLICATION, "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("APPLICATION_URL", f"sqlite:///{tmp_path / 'tasks.db'}")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    yield "application_of_cli:server"
    sys.modules.pop("application_of_cli", None)


@pytest.fixture
def server(application: str) -> Iterator[Server]:
    """A second server on the same services."""
    with Server.from_url(os.environ["APPLICATION_URL"]) as made:
        yield made


@pytest.fixture
def machinery(capsys: pytest.CaptureFixture[str], application: str) -> Run:
    """Runs one command; its status, output and errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        sys.modules.pop("application_of_cli", None)  # each command is a process of its own, and closes its server
        status = main(arguments)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def test_send_prints_the_id_of_what_it_sent(machinery: Run, application: str, server: Server) -> None:
    status, output, _ = machinery("send", application, "add", "1", "2")
    assert status == 0
    (task,) = server.pending_tasks()
    assert output.strip() == task.uuid
    assert [(arg.type, arg.value) for arg in task.args] == [("int64", 1), ("int64", 2)]


def test_send_takes_a_queue_and_a_countdown(machinery: Run, application: str, server: Server) -> None:
    machinery("send", application, "add", "1", "2", "-q", "special")
    machinery("send", application, "add", "1", "2", "--countdown", "60")
    assert len(server.pending_tasks("special")) == 1
    assert len(server.delayed_tasks()) == 1


def test_send_passes_on_what_the_server_does_not_know(machinery: Run, application: str, server: Server) -> None:
    status, _, errors = machinery("send", application, "unknown", "text", '{"a": 1}', "--countdown", "0")
    assert status == 0
    assert "has no task 'unknown'" in errors
    (task,) = server.pending_tasks()
    assert [(arg.type, arg.value) for arg in task.args] == [("string", "text"), ("json", {"a": 1})]


def test_send_waits_for_the_result(machinery: Run, application: str, server: Server) -> None:
    server.register_task("add", lambda a, b: a + b)
    with server.new_worker("test", 1):
        status, output, _ = machinery("send", application, "add", "1", "2", "--wait", "10")
    assert status == 0
    assert json.loads(output.splitlines()[-1]) == 3


def test_send_says_that_the_task_failed_or_did_not_end_in_time(
    machinery: Run, application: str, server: Server
) -> None:
    status, _, errors = machinery("send", application, "add", "1", "2", "--wait", "0.01")
    assert status == 1
    assert "ResultTimeout" in errors

    server.register_task("add", lambda *_: 1 // 0)
    with server.new_worker("test", 1):
        status, _, errors = machinery("send", application, "add", "1", "2", "--wait", "10")
    assert status == 1
    assert "TaskFailed" in errors


@pytest.mark.parametrize("line", ["add --wait 10 1 2", "add 1 --wait 10 2", "--wait 10 add 1 2", "add 1 2 --wait 10"])
def test_options_may_stand_anywhere(machinery: Run, application: str, server: Server, line: str) -> None:
    server.register_task("add", lambda a, b: a + b)
    with server.new_worker("test", 1):
        status, output, _ = machinery("send", application, *line.split())
    assert status == 0
    assert json.loads(output.splitlines()[-1]) == 3


def test_send_refuses_a_wrong_call(machinery: Run, application: str) -> None:
    status, _, errors = machinery("send", application, "add", "one", "2")
    assert status == 1
    assert "argument 'a' of add is str, the function wants int" in errors


def test_result_prints_the_record(machinery: Run, application: str, server: Server) -> None:
    server.register_task("add", lambda a, b: a + b)
    _, output, _ = machinery("send", application, "add", "1", "2")
    uuid = output.strip()
    status, output, _ = machinery("result", application, uuid)
    assert status == 0
    assert json.loads(output)["State"] == "PENDING"

    with server.new_worker("test", 1):
        status, output, _ = machinery("result", application, uuid, "--wait", "10")
    assert status == 0
    assert json.loads(output)["State"] == "SUCCESS"


def test_result_tells_by_its_status_that_the_task_failed_or_is_not_known(
    machinery: Run, application: str, server: Server
) -> None:
    server.register_task("add", lambda *_: 1 // 0)
    _, output, _ = machinery("send", application, "add", "1", "2")
    with server.new_worker("test", 1):
        status, shown, _ = machinery("result", application, output.strip(), "--wait", "10")
    assert status == 1
    assert json.loads(shown)["State"] == "FAILURE"

    status, _, errors = machinery("result", application, "task_unknown")
    assert status == 1
    assert "StateNotFound" in errors


def test_pending_and_delayed_list_what_waits(machinery: Run, application: str) -> None:
    machinery("send", application, "add", "1", "2")
    machinery("send", application, "add", "3", "4", "--countdown", "60")
    _, output, _ = machinery("pending", application)
    assert "add(1, 2)" in output
    assert "add(3, 4)" not in output
    _, output, _ = machinery("delayed", application, "-n", "5")
    assert "add(3, 4) at 20" in output


def test_dead_letters_are_listed_requeued_and_purged(machinery: Run, application: str, server: Server) -> None:
    queue = server.config.default_queue
    server.broker.publish([Message(b"nonsense", queue), Message(b"more nonsense", queue)])
    with server.new_worker("test", 1):
        eventually(lambda: len(server.dead_tasks()) == 2)

    _, output, _ = machinery("dead", application)
    first = output.splitlines()[0].split()[0]
    assert "undecodable" in output
    assert "b'nonsense'" in output

    status, output, errors = machinery("requeue", application, first, "no-such-letter")
    assert (status, output) == (1, "1 put back\n")
    assert errors == "machinery: no dead letter has the id no-such-letter\n"
    assert machinery("purge", application)[1] == "1 deleted\n"
    assert machinery("purge", application, "--dead")[1] == "1 deleted\n"
    assert machinery("requeue", application)[1] == "0 put back\n"
    assert machinery("dead", application)[1] == ""


def test_a_dead_letter_that_can_be_read_shows_its_call(machinery: Run, application: str, server: Server) -> None:
    @server.task
    def bad(number: int) -> None:
        raise Reject("no good")

    with server.new_worker("test", 1):
        sent = bad.send(7)
        eventually(server.dead_tasks)
    assert f"no good: {sent.uuid} bad(7)\n" in machinery("dead", application)[1]


def test_doctor_says_what_it_found(machinery: Run, application: str, monkeypatch: pytest.MonkeyPatch) -> None:
    status, output, _ = machinery("doctor", application)
    assert status == 0
    assert "ok" in output

    monkeypatch.setattr("machinery.sqlite.SqliteBroker.examine", lambda _: [Finding("error", "it burns")])
    status, output, _ = machinery("doctor", application)
    assert status == 1
    assert "error   broker: it burns" in output

    def be_away(self: object) -> list[Finding]:
        raise BackendUnavailable("away")

    monkeypatch.setattr("machinery.sqlite.SqliteBackend.examine", be_away)
    assert "error   backend: away" in machinery("doctor", application)[1]


@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        ("nonsense", "names no server"),
        (":server", "names no server"),
        ("no_such_module:server", "there is no module 'no_such_module'"),
        ("application_of_cli:nobody", "has no 'nobody'"),
        ("application_of_cli:add", "is Task, not a machinery.Server"),
        ("broken_application:server", "importing 'broken_application' failed: ZeroDivisionError"),
        ("needy_application:server", "importing 'needy_application' failed: No module named 'no_such_dependency'"),
        ("nonsense://", "UnknownScheme"),
    ],
)
def test_a_target_that_names_no_server_is_wrong_use(
    machinery: Run, tmp_path: Path, target: str, complaint: str
) -> None:
    (tmp_path / "broken_application.py").write_text("1 / 0", "utf-8")
    (tmp_path / "needy_application.py").write_text("import no_such_dependency", "utf-8")
    status, _, errors = machinery("pending", target)
    assert status == 2
    assert complaint in errors


BROKEN = """
import json


def configure():
    json.loads("{")


configure()
"""


def test_a_module_that_fails_is_blamed_on_its_own_line(machinery: Run, tmp_path: Path) -> None:
    (tmp_path / "failing_application.py").write_text(BROKEN, "utf-8")
    (tmp_path / "outer_application.py").write_text("\n\nimport failing_application", "utf-8")
    (tmp_path / "misspelt_application.py").write_text("x = 1\ny = = 2", "utf-8")
    (tmp_path / "lacking_application.py").write_text("\nimport no_such_dependency", "utf-8")
    (tmp_path / "misconfigured_application.py").write_text(
        "from machinery import Server\nserver = Server.from_url('nonsense://')", "utf-8"
    )
    for module, place in {
        "failing_application": "failing_application.py:6",
        "outer_application": "failing_application.py:6",
        "misspelt_application": "misspelt_application.py:2",
        "lacking_application": "lacking_application.py:2",
        "misconfigured_application": "misconfigured_application.py:2",
    }.items():
        status, _, errors = machinery("pending", f"{module}:server")
        assert status == 2
        assert errors.endswith(f"({tmp_path / place})\n")
        assert "Traceback" not in errors


def test_a_worker_that_logs_everything_shows_the_traceback(application: str, tmp_path: Path) -> None:
    (tmp_path / "failing_application.py").write_text(BROKEN, "utf-8")
    command = [sys.executable, "-m", "machinery", "worker", "failing_application:server"]
    for more, shown in (([], False), (["-l", "debug"], True), (["-l", "debug", "-p", "2"], True)):
        ended = subprocess.run([*command, *more], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
        assert ended.returncode == 2
        assert ("in configure" in ended.stderr) is shown


def test_a_server_may_be_nested_and_a_url_is_one_without_tasks(machinery: Run) -> None:
    assert machinery("pending", "application_of_cli:Nested.server")[0] == 0
    assert machinery("pending", "memory://")[0] == 0


BAD_BYTES = os.fsdecode(b"\xff")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["pending"],
        ["worker", "app:server", "-c", "-1"],
        ["worker", "app:server", "-p", "0"],
        ["worker", "app:server", "-q", BAD_BYTES],
        ["pending", "a:b", "-n", "x"],
        ["pending", "a:b", "-n", "9" * 5000],
        ["pending", "a:b", "-q", BAD_BYTES],
        ["result", "a:b", BAD_BYTES],
        ["result", "a:b", "task_1", "--wait", "nan"],
        ["requeue", "a:b", BAD_BYTES],
        ["send", "a:b", "add", "--countdown", "nan"],
        ["send", "a:b", "add", "--countdown", "inf"],
        ["send", "a:b", "add", "--countdown", "1e15"],
        ["send", "a:b", "add", "--countdown", "1e12"],
        ["send", "a:b", "add", "--countdown", "-1"],
        ["send", "a:b", "add", "--countdown", "soon"],
        ["send", "a:b", "add", "-q", BAD_BYTES],
        ["send", "a:b", BAD_BYTES],
        ["send", "a:b", "add", BAD_BYTES],
    ],
)
def test_wrong_use_is_explained(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: machinery" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["worker", "memory://", "-q", ""], ["worker", "memory://", "-q", "a", "-q", "a"]]
)
def test_queues_that_are_none_are_a_wrong_configuration(machinery: Run, arguments: list[str]) -> None:
    status, _, errors = machinery(*arguments)
    assert status == 2
    assert errors.splitlines()[-1].startswith("machinery: ConfigError: a queue ")


def test_the_version_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"machinery {__version__}\n"


@pytest.mark.parametrize(
    ("error", "status"), [(BrokerUnavailable("away"), 3), (KeyboardInterrupt(), 130), (BrokenPipeError(), 0)]
)
def test_the_status_tells_what_went_wrong(
    machinery: Run, application: str, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr("machinery.sqlite.SqliteBroker.pending", fail)
    assert machinery("pending", application)[0] == status


def test_a_worker_process_runs_tasks_and_drains_on_sigterm(application: str, server: Server, tmp_path: Path) -> None:
    server.register_task("add", lambda a, b: a + b)
    task = server.registry.find("add")
    assert task is not None
    command = [
        sys.executable,
        "-m",
        "machinery",
        "worker",
        application,
        "-c",
        "2",
        "-t",
        "mine",
        "-q",
        "machinery_tasks",
    ]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as worker:
        try:
            assert task.send(1, 2).get(timeout=30) == 3
            worker.send_signal(signal.SIGTERM)
            _, errors = worker.communicate(timeout=20)
        finally:
            worker.kill()
    assert worker.returncode == 0
    assert "<Worker mine@" in errors
    assert "SIGTERM: draining" in errors
    assert "has stopped" in errors


def test_a_worker_of_a_server_that_cannot_be_is_status_2(application: str, tmp_path: Path) -> None:
    del application
    for more in ([], ["-p", "2"]):
        command = [sys.executable, "-m", "machinery", "worker", "no_such_module:server", *more]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
        assert ended.returncode == 2
        assert "there is no module 'no_such_module'" in ended.stderr
