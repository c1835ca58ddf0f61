"""Builds shim.c with the machine's C compiler, and says how to start a process under it.

Invariant: the fault file is changed in place only, because the process under test has it mapped.
"""

import os
import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")
FAULTS = struct.Struct("<6i")


def build(directory: Path) -> Path:
    """Compile the shim into `directory` (once) and return the library's path."""
    library = directory / "recorder_shim.so"
    if library.exists():
        return library
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise RuntimeError(
            "the crash tests need a C compiler: install one (Debian: apt-get install gcc libc6-dev)"
        )
    draft = library.with_suffix(f".{os.getpid()}")
    command = [
        *compiler.split(),
        "-O2",
        "-Wall",
        "-Werror",
        "-shared",
        "-fPIC",
        "-o",
        str(draft),
        str(SOURCE),
    ]
    subprocess.run(command, check=True)
    draft.rename(library)
    return library


@dataclass
class Shim:
    """How one process is watched: its data directory, and a directory for what the shim keeps."""

    library: Path
    root: Path
    work: Path
    record: bool = True
    no_sync: bool = False

    def __post_init__(self) -> None:
        self.work.mkdir(parents=True, exist_ok=True)
        self.marks.touch()
        self.give()

    @property
    def log(self) -> Path:
        return self.work / "record"

    @property
    def marks(self) -> Path:
        return self.work / "marks"

    @property
    def faults(self) -> Path:
        return self.work / "faults"

    def environment(self) -> dict[str, str]:
        """Variables for the process to watch, added to this process's own."""
        added = {
            "LD_PRELOAD": str(self.library),
            "RECORDER_ROOT": str(self.root),
            "RECORDER_MARKS": str(self.marks),
            "RECORDER_FAULTS": str(self.faults),
        }
        if self.record:
            added["RECORDER_LOG"] = str(self.log)
        if self.no_sync:
            added["RECORDER_NOSYNC"] = "1"
        return {**os.environ, **added}

    def give(
        self,
        *,
        write: tuple[int, int] = (0, 0),
        dsync: tuple[int, int] = (0, 0),
        sync: tuple[int, int] = (0, 0),
    ) -> None:
        """From now on, calls fail with (errno, how often; -1: always); without arguments none does."""
        content = FAULTS.pack(*write, *dsync, *sync)
        fd = os.open(self.faults, os.O_RDWR | os.O_CREAT, 0o600)
        os.pwrite(fd, content, 0)
        os.close(fd)
