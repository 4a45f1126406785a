"""What machine this is. Nothing that tells one machine of a kind from another: no names, no addresses."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path


def describe_machine() -> dict[str, str]:
    """Processor, cores, memory, kernel and Python; what cannot be found out is left out."""
    found = {
        "processor": _first(Path("/proc/cpuinfo"), r"model name\s*: (.+)") or platform.processor(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "memory": _memory(),
        "kernel": f"{platform.system()} {re.split(r'[-_]', platform.release())[0]}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }
    return {name: text for name, text in found.items() if text}


def load() -> str:
    """How busy the machine is, over the last minute: processes that would run, on average."""
    return f"{os.getloadavg()[0]:.1f}"


def _memory() -> str:
    kibibytes = _first(Path("/proc/meminfo"), r"MemTotal:\s*(\d+)")
    return f"{int(kibibytes) / (1 << 20):.0f} GiB" if kibibytes else ""


def _first(path: Path, pattern: str) -> str:
    found = re.search(pattern, path.read_text("utf-8")) if path.exists() else None
    return found[1].strip() if found else ""
