"""The worker. One file a duty: fetcher, executor, settler, announcer, keeper; `Worker` ties them together."""

from machinery._worker._worker import Worker

__all__ = ["Worker"]
