"""The command line: ``machinery worker app:server -c 10`` and what helps to look after queues."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Container, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from machinery import __version__
from machinery._application import load_server
from machinery._go_json import is_utf8
from machinery._plugins import describe_installation, plugin_commands
from machinery._processes import CONFIG_ERROR_STATUS, Supervisor, quit_with_parent, worker_command
from machinery._server import Server
from machinery._signatures import Signature
from machinery._states import TaskState
from machinery.abc import Backend, Broker, Finding, Lock
from machinery.errors import ConfigError, DecodeError, MachineryError, ResultTimeout, TaskFailed, Unavailable
from machinery.wire import decode_signature, encode_state

FAILED_STATUS = 1
UNAVAILABLE_STATUS = 3
MOST_DIGITS = 9
"""More than anybody counts, and less than any service's integers hold."""
LONGEST_SHOWN = 200
"""Bytes of a message that is not readable."""
LEAVING = 3.0
"""Seconds that the process may take to end once its command is done."""
TARGET_HELP = "the server: module:attribute (such as app:server), or a service's URL"


def run() -> int:
    """`main` for a process of its own, which ends soon afterwards whatever threads go on in it."""
    status = main()
    _leave_in_the_end(status)
    return status


def _leave_in_the_end(status: int) -> None:
    """End the process even if a thread that a task made goes on: Python waits for the threads of pools for ever.

    What ran in it was handed back; going on here it would only overlap with its second run.
    """

    def leave() -> None:
        time.sleep(LEAVING)
        logging.getLogger("machinery").warning("left threads behind that would not end")
        logging.shutdown()
        os._exit(status)

    threading.Thread(target=leave, name="machinery-leaving", daemon=True).start()


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status: 0 done, 1 it failed, 2 wrong use or configuration, 3 a service is away."""
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    except Unavailable as error:
        return _complain(error, UNAVAILABLE_STATUS)
    except ConfigError as error:
        return _complain(error, CONFIG_ERROR_STATUS)
    except MachineryError as error:
        return _complain(error, FAILED_STATUS)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 0


def _run(words: Sequence[str]) -> int:
    parser, own = _parser()
    service = words[0] if words and not words[0].startswith("-") and words[0] not in own else ""
    plugin = plugin_commands(service) if service else None
    if plugin is not None:
        name: str = _plugin_parser(service, plugin).parse_args(words[1:2]).name
        return plugin[name](words[2:])
    arguments = parser.parse_args(words)
    return int(arguments.command(arguments))


def _complain(error: Exception, status: int) -> int:
    logging.getLogger("machinery").debug("where it came from:", exc_info=error)
    print(f"machinery: {type(error).__name__}: {error}", file=sys.stderr)
    return status


def _plugin_parser(service: str, commands: Mapping[str, object]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"machinery {service}",
        description=f"What the plug-in for {service} can do besides. Each command has a --help of its own.",
    )
    parser.add_argument("name", metavar="COMMAND", choices=sorted(commands), help=", ".join(sorted(commands)) or "none")
    return parser


def _parser() -> tuple[argparse.ArgumentParser, Container[str]]:
    """The parser, and the names of core's own commands."""
    parser = argparse.ArgumentParser(
        prog="machinery",
        description="A task queue that loses nothing.",
        epilog="machinery SERVICE --help: the commands of an installed plug-in, such as machinery dynamodb create-tables",
    )
    parser.add_argument("--version", action="version", version=f"machinery {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_CommandParser)

    worker = _command(
        commands, "worker", _worker, "run tasks until told to stop (SIGTERM drains, a second one leaves at once)"
    )
    worker.add_argument(
        "-c", "--concurrency", type=_count, default=0, help="how many tasks at once; 0: unlimited (default)"
    )
    worker.add_argument("-p", "--processes", type=_positive, default=1, help="how many worker processes (default 1)")
    worker.add_argument(
        "-q", "--queue", type=_text, action="append", help="a queue to consume; may be repeated (default: the server's)"
    )
    worker.add_argument("-t", "--tag", type=_text, default="worker", help="begins the worker's name")
    worker.add_argument(
        "-l",
        "--log-level",
        default="INFO",
        choices=["DEBUG", "INFO", "WARNING", "ERROR"],
        type=str.upper,
        help="the least that is logged (default INFO); DEBUG also shows where a configuration error came from",
    )
    worker.add_argument("--supervised", action="store_true", help=argparse.SUPPRESS)

    send = _command(commands, "send", _send, "send one task; prints its id")
    send.add_argument("name", type=_text, help="the task's name")
    send.add_argument("args", type=_text, nargs="*", help="arguments: JSON, else text")
    send.add_argument("-q", "--queue", type=_text, default="", help="the queue (default: the task's or the server's)")
    send.add_argument("--countdown", type=_seconds, help="seconds to wait before it may start")
    send.add_argument(
        "--wait", type=_seconds, metavar="SECONDS", help="wait that long for the result and print it as JSON"
    )

    result = _command(commands, "result", _result, "print the state of a task as JSON")
    result.add_argument("uuid", type=_text)
    result.add_argument("--wait", type=_seconds, metavar="SECONDS", help="wait that long for it to end")

    for name, function, text in (
        ("pending", _pending, "list what waits in a queue"),
        ("dead", _dead, "list the dead letters of a queue"),
    ):
        command = _command(commands, name, function, text)
        command.add_argument("-q", "--queue", type=_text, default="")
        command.add_argument("-n", "--limit", type=_count, default=100)
    delayed = _command(commands, "delayed", _delayed, "list what waits for its time, in any queue")
    delayed.add_argument("-n", "--limit", type=_count, default=100)

    requeue = _command(commands, "requeue", _requeue, "put dead letters back on their queue")
    requeue.add_argument("ids", type=_text, nargs="*", help="which (default: all)")
    requeue.add_argument("-q", "--queue", type=_text, default="")
    purge = _command(commands, "purge", _purge, "delete all that waits in a queue, and what its workers postponed")
    purge.add_argument("-q", "--queue", type=_text, default="")
    purge.add_argument("--dead", action="store_true", help="delete its dead letters instead")

    _command(
        commands, "doctor", _doctor, "check the installation and the services' settings that silently break queues"
    )
    return parser, commands.choices


def _command(
    commands: Any, name: str, function: Callable[[argparse.Namespace], int], text: str
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    command.add_argument("target", type=_text, help=TARGET_HELP)
    command.set_defaults(command=function)
    return command


class _CommandParser(argparse.ArgumentParser):
    """Takes options between the arguments of one list, too: ``send app:server add 1 --wait 5 2``."""

    _is_mixing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self._is_mixing:  # the method below comes back here for each of its two passes
            return super().parse_known_args(args, namespace)
        self._is_mixing = True
        try:
            return super().parse_known_intermixed_args(args, namespace)
        finally:
            self._is_mixing = False


def _text(text: str) -> str:
    if not is_utf8(text):
        raise argparse.ArgumentTypeError(f"{text!r} has bytes that are no UTF-8")
    return text


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > MOST_DIGITS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on, of at most {MOST_DIGITS} digits")
    return int(text)


def _positive(text: str) -> int:
    count = _count(text)
    if not count:
        raise argparse.ArgumentTypeError("it must be at least 1")
    return count


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
        _after(seconds)
    except (ValueError, OverflowError):
        seconds = -1
    if seconds < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, from 0 to the end of the calendar")
    return seconds


# -- the commands -----------------------------------------------------------------------------------------------------------


def _worker(arguments: argparse.Namespace) -> int:
    logging.basicConfig(level=arguments.log_level, format="%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s")
    if arguments.processes > 1 and not arguments.supervised:
        load_server(arguments.target).close()  # what is wrong with it is better said once, before anything starts
        command = worker_command(_passed_on(arguments))
        return Supervisor(command, arguments.processes, logging.getLogger("machinery")).run()
    server = load_server(arguments.target)
    worker = server.new_worker(arguments.tag, arguments.concurrency, arguments.queue)
    if arguments.supervised:
        quit_with_parent(worker.quit)
    worker.launch()
    server.close()
    return 0


def _passed_on(arguments: argparse.Namespace) -> list[str]:
    passed = [arguments.target, "-c", str(arguments.concurrency), "-t", arguments.tag, "-l", arguments.log_level]
    for queue in arguments.queue or ():
        passed += ["-q", queue]
    return passed


def _send(arguments: argparse.Namespace) -> int:
    with load_server(arguments.target) as server:
        values = [_value(text) for text in arguments.args]
        task = server.registry.find(arguments.name)
        if task is not None:
            options: dict[str, Any] = {}
            if arguments.queue:
                options["queue"] = arguments.queue
            if arguments.countdown is not None:
                options["countdown"] = timedelta(seconds=arguments.countdown)
            signature = task.options(**options).signature(*values)
        else:
            print(f"machinery: this server has no task {arguments.name!r}; sending it as it is", file=sys.stderr)
            signature = Signature(arguments.name, values, routing_key=arguments.queue, eta=_after(arguments.countdown))
        sent = server.send_task(signature)
        print(sent.uuid, flush=True)
        if arguments.wait is None:
            return 0
        try:
            print(json.dumps(sent.get(timeout=arguments.wait), default=repr))
        except (TaskFailed, ResultTimeout) as error:
            return _complain(error, FAILED_STATUS)
        return 0


def _after(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.now(UTC) + timedelta(seconds=seconds)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _result(arguments: argparse.Namespace) -> int:
    with load_server(arguments.target) as server:
        result = server.result(arguments.uuid)
        if arguments.wait is not None:
            with contextlib.suppress(TaskFailed):  # shown below
                result.get(timeout=arguments.wait)
        state = result.task_state()
        print(_state_text(state))
        return FAILED_STATUS if state.is_failure else 0


def _state_text(state: TaskState) -> str:
    return encode_state(state).decode()


def _pending(arguments: argparse.Namespace) -> int:
    with load_server(arguments.target) as server:
        for signature in server.pending_tasks(arguments.queue, arguments.limit):
            print(_signature_text(signature))
    return 0


def _delayed(arguments: argparse.Namespace) -> int:
    with load_server(arguments.target) as server:
        for signature in server.delayed_tasks(arguments.limit):
            print(_signature_text(signature))
    return 0


def _signature_text(signature: Signature) -> str:
    eta = f" at {signature.eta.isoformat()}" if signature.eta else ""
    shown = ", ".join(f"{arg.name}={arg.value!r}" if arg.name else repr(arg.value) for arg in signature.args)
    return f"{signature.uuid} {signature.name}({shown}){eta}"


def _dead(arguments: argparse.Namespace) -> int:
    with load_server(arguments.target) as server:
        for letter in server.dead_tasks(arguments.queue, arguments.limit):
            died_at = letter.died_at.isoformat(timespec="seconds")
            print(f"{letter.id} {died_at} {letter.reason}: {_body_text(letter.body)}")
    return 0


def _body_text(body: bytes) -> str:
    try:
        return _signature_text(decode_signature(body))
    except DecodeError:
        return repr(body[:LONGEST_SHOWN])


def _requeue(arguments: argparse.Namespace) -> int:
    with load_server(arguments.target) as server:
        wanted = arguments.ids or None
        unknown = _unknown(server, arguments.queue, wanted) if wanted else []
        count = server.requeue_dead_tasks(arguments.queue, wanted)
        print(f"{count} put back")
    if unknown:
        print(f"machinery: no dead letter has the id {', '.join(unknown)}", file=sys.stderr)
    return FAILED_STATUS if unknown else 0


def _unknown(server: Server, queue: str, ids: Sequence[str]) -> list[str]:
    known = {letter.id for letter in server.dead_tasks(queue, 10**MOST_DIGITS)}
    return [each for each in ids if each not in known]


def _purge(arguments: argparse.Namespace) -> int:
    with load_server(arguments.target) as server:
        queue = _queue(server, arguments)
        count = server.broker.purge_dead(queue) if arguments.dead else server.broker.purge(queue)
        print(f"{count} deleted")
    return 0


def _queue(server: Server, arguments: argparse.Namespace) -> str:
    return str(arguments.queue or server.config.default_queue)


def _doctor(arguments: argparse.Namespace) -> int:
    with load_server(arguments.target) as server:
        findings = list(describe_installation(server.config))
        roles: dict[Finding, list[str]] = {}  # one service in three roles says the same thing three times
        for role, service in (("broker", server.broker), ("backend", server.backend), ("lock", server.lock)):
            for finding in _examined(service):
                roles.setdefault(finding, []).append(role)
        findings += [Finding(finding.level, f"{', '.join(names)}: {finding.text}") for finding, names in roles.items()]
    for finding in findings:
        print(f"{finding.level:8}{finding.text}")
    if not findings:
        print("ok      nothing to complain of")
    return FAILED_STATUS if any(finding.level == "error" for finding in findings) else 0


def _examined(service: Broker | Backend | Lock) -> list[Finding]:
    try:
        return service.examine()
    except Unavailable as error:
        return [Finding("error", str(error))]
