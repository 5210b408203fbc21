"""The largest resident memory of a process, so far."""

import os
import re
from pathlib import Path

import psutil


def peak_mb(process: int) -> float:
    """Largest resident memory of a process that runs, in MB; 0 once it has ended.

    Touched pages of mapped files count. Outside Linux it is the memory of this moment, so ask often.
    """
    try:
        if not Path("/proc/self/status").exists():
            return psutil.Process(process).memory_info().rss / 1e6
        # not ru_maxrss, which in a child begins with its parent's
        found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{process}/status").read_text())
        return int(found[1]) * 1024 / 1e6 if found else 0.0
    except (FileNotFoundError, ProcessLookupError, psutil.NoSuchProcess):
        return 0.0


def own_peak_mb() -> float:
    """Largest resident memory of this process, in MB."""
    return peak_mb(os.getpid())
