"""The machine that a figure was measured on: a figure without it says nothing."""

import datetime
import mmap
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np

import onecard

# What a plain card needs at most while it is measured: memory of the engine, and bytes on disk for its
# entries, its keys and its place in the checkpoint.
CARD_MEMORY = 160
CARD_DISK = 500
PAGE = 4096
TOUCHED_BYTES = 64 << 20


def describe() -> dict[str, str]:
    """Processor, cores, memory and what touching it costs, kernel, filesystem of the data, date, version."""
    return {
        "processor": _first("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": str(os.cpu_count()),
        "memory": f"{total_memory() / 2**30:.1f} GiB",
        "first touch of a page": f"{first_touch_us():.2f} us",
        "kernel": f"{platform.system()} {platform.release()}",
        "filesystem": filesystem(tempfile.gettempdir()),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "onecard": onecard.__version__,
    }


def first_touch_us() -> float:
    """Microseconds that a page of memory costs when it is touched for the first time.

    Some tenths where the system has the memory. In a virtual machine whose host takes free memory back it can
    be twenty: then whatever grows - tables, the page cache of a file that is written - is bounded by that.
    """
    with mmap.mmap(-1, TOUCHED_BYTES) as memory:
        pages = np.frombuffer(memory, np.uint8)[::PAGE]
        start = time.perf_counter()
        pages[:] = 1
        took = time.perf_counter() - start
        del pages
    return took * 1e6 / (TOUCHED_BYTES // PAGE)


class Stolen:
    """The share of the processors' time that a virtual machine asked for and its host gave to others.

    From when it is made. A figure that was measured while much was stolen says less of the program than
    of the neighbours.
    """

    def __init__(self) -> None:
        self._before = _ticks()

    def share(self) -> float:
        """Stolen time over all time but idle; 0.0 where there is none, or the system does not tell."""
        busy, stolen = (now - before for now, before in zip(_ticks(), self._before, strict=True))
        return round(stolen / busy, 3) if busy else 0.0


def _ticks() -> tuple[int, int]:
    """Processor time that was used or stolen, and what of it was stolen, since the start of the system."""
    try:
        first = Path("/proc/stat").read_text().splitlines()[0]
    except OSError:
        return 0, 0
    user, nice, system, _idle, _waiting, interrupts, soft, stolen = map(int, first.split()[1:9])
    return user + nice + system + interrupts + soft + stolen, stolen


def total_memory() -> int:
    """Bytes of memory."""
    return _kibibytes("MemTotal") * 1024


def available_memory() -> int:
    """Bytes of memory that can be had without swapping."""
    return _kibibytes("MemAvailable") * 1024


def filesystem(directory: str) -> str:
    """Kind of the filesystem that a directory lies on."""
    place = Path(directory).resolve()
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mounted, found, *_ = line.split()
        if place.is_relative_to(mounted) and len(mounted) >= len(best):
            best, kind = mounted, found
    return kind


def lacks(cards: int, directory: Path) -> str:
    """Why so many cards cannot be measured here; empty if they can."""
    memory, room = available_memory(), os.statvfs(directory)
    free = room.f_bavail * room.f_frsize
    if cards * CARD_MEMORY > memory:
        return f"needs {cards * CARD_MEMORY / 1e9:.0f} GB of memory, {memory / 1e9:.0f} GB are available"
    if cards * CARD_DISK > free:
        return f"needs {cards * CARD_DISK / 1e9:.0f} GB of disk, {free / 1e9:.0f} GB are free"
    return ""


def _kibibytes(name: str) -> int:
    return int(_first("/proc/meminfo", name).split()[0])


def _first(file: str, name: str) -> str:
    """What the first line of a file that begins with a name says after its colon."""
    for line in Path(file).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""
