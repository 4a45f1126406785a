"""Measures this project beside its peers. Nothing is measured yet."""

import sys

if __name__ == "__main__":
    sys.exit(
        "benchmarks/run.py measures nothing yet. Still missing: sending one by one and in batches, draining with one "
        "worker process of 10 threads, and round trips (p50, p99), 20,000 no-op tasks each on a local Redis, beside Huey, "
        "Dramatiq and Taskiq in the same run."
    )
