"""What ``make demo`` runs: a worker process on a SQLite file, and beside it a program that sends tasks and prints the results.

Needs nothing but machinery-core. Stops the worker at the end and leaves no file behind. The tasks are in `demo_tasks.py`.
"""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType
from typing import IO

HERE = Path(__file__).parent
WORKER = ["-m", "machinery", "worker", "demo_tasks:server", "-c", "4"]
SENDER = ["demo_tasks.py"]
TICKS = 2
"""How often the periodic task is to be seen."""


def main() -> int:
    """Run the demo. The exit status is 0 when all went as it should."""
    signal.signal(signal.SIGTERM, leave)
    with tempfile.TemporaryDirectory(prefix="machinery-demo-") as folder:
        log = Path(folder) / "worker.log"
        environment = {**os.environ, "BROKER": f"sqlite:///{folder}/tasks.db"}
        with log.open("wb") as output:
            worker = subprocess.Popen(  # noqa: S603 - ours
                [sys.executable, *WORKER], cwd=HERE, env=environment, stdout=subprocess.PIPE, stderr=output, text=True
            )
        print(f"process {worker.pid}: machinery {' '.join(WORKER[2:])}\nBROKER={environment['BROKER']}\n", flush=True)
        ticks = Ticks(worker.stdout)
        try:
            went_well = send(environment, ticks) and ticks.wait()
        finally:
            worker_status = stop(worker)
            ticks.close()
        print(f"\nprocess {worker.pid}: stopped by SIGTERM, exit status {worker_status}")
        if not went_well or worker_status:
            print(f"The demo went wrong. The worker's log:\n{log.read_text('utf-8')}", file=sys.stderr)
            return 1
    return 0


class Ticks:
    """What the worker's periodic task prints, a row each time: shown as it comes, until that was often enough."""

    def __init__(self, rows: IO[str] | None) -> None:
        assert rows is not None  # noqa: S101 - the worker was given a pipe
        self._rows = rows
        self._shown = threading.Semaphore(0)
        self._reader = threading.Thread(target=self._read, daemon=True)

    def show(self) -> None:
        """From now on; what came before comes now."""
        self._reader.start()

    def wait(self) -> bool:
        """Whether the task was seen often enough, after some seconds at the latest."""
        return all(self._shown.acquire(timeout=10) for _ in range(TICKS))

    def close(self) -> None:
        """The worker has ended, and so its rows."""
        if self._reader.is_alive():
            self._reader.join()
        self._rows.close()

    def _read(self) -> None:
        for number, row in enumerate(self._rows):
            if number < TICKS:
                print(row, end="", flush=True)
                self._shown.release()


def send(environment: dict[str, str], ticks: Ticks) -> bool:
    """Run the program that sends, with the ticks among its rows. Whether all went as it should."""
    with subprocess.Popen(  # noqa: S603 - ours
        [sys.executable, *SENDER], cwd=HERE, env=environment, stdout=subprocess.PIPE, text=True
    ) as sender:
        try:
            for number, row in enumerate(sender.stdout or ()):
                print(row, end="", flush=True)
                if number == 0:  # the heading
                    ticks.show()
        except BaseException:
            sender.kill()
            raise
    return sender.returncode == 0


def stop(worker: subprocess.Popen[str]) -> int:
    """Ask the worker to finish what it runs and to leave; returns its exit status."""
    worker.terminate()
    try:
        return worker.wait(timeout=10)
    except subprocess.TimeoutExpired:
        worker.kill()
        return worker.wait()


def leave(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a signal handler
    """Clean up when told to end, too."""
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
