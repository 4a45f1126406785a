"""What ``make demo`` runs: a worker process on a SQLite file, and beside it a program that sends tasks and prints the results.

Needs nothing but machinery-core. Stops the worker at the end and leaves no file behind. The tasks are in `demo_tasks.py`.
"""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import FrameType

HERE = Path(__file__).parent
WORKER = ["-m", "machinery", "worker", "demo_tasks:server", "-c", "4"]
SENDER = ["demo_tasks.py"]


def main() -> int:
    """Run the demo. The exit status is 0 when all went as it should."""
    signal.signal(signal.SIGTERM, leave)
    with tempfile.TemporaryDirectory(prefix="machinery-demo-") as folder:
        log = Path(folder) / "worker.log"
        environment = {**os.environ, "BROKER": f"sqlite:///{folder}/tasks.db"}
        with log.open("wb") as output:
            worker = subprocess.Popen([sys.executable, *WORKER], cwd=HERE, env=environment, stderr=output)  # noqa: S603 - ours
        print(f"process {worker.pid}: machinery {' '.join(WORKER[2:])}\nBROKER={environment['BROKER']}\n", flush=True)
        try:
            sent = subprocess.run([sys.executable, *SENDER], cwd=HERE, env=environment, check=False)  # noqa: S603 - ours
        finally:
            worker_status = stop(worker)
        print(f"\nprocess {worker.pid}: stopped by SIGTERM, exit status {worker_status}")
        if sent.returncode or worker_status:
            print(f"The demo went wrong. The worker's log:\n{log.read_text('utf-8')}", file=sys.stderr)
            return 1
    return 0


def stop(worker: subprocess.Popen[bytes]) -> int:
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
