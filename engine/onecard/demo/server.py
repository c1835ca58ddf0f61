"""A server of the demo's own: `onecard serve` in another process, on a fresh directory."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter, sleep

from onecard.demo.data import DemoError

START_S = 30.0
STOP_S = 60.0
POLL_S = 0.02
LOG_BYTES = 64 * 1024


class Server:
    """A running server; `target` is its HOST:PORT. Use it as a context: leaving it kills what still runs."""

    def __init__(self, data_dir: Path) -> None:
        """Start it and wait until it listens. DemoError with what it said if it does not."""
        # A file, not a pipe: nobody has to read it for the server to go on.
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed on leaving
        command = [sys.executable, "-m", "onecard", "serve", str(data_dir)]
        self._process = subprocess.Popen(
            [*command, "--listen", "127.0.0.1:0"],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        deadline = perf_counter() + START_S
        while not (said := re.search(r"^listening on (\S+)\n", self.said(), re.MULTILINE)):
            if self._process.poll() is not None or perf_counter() > deadline:
                self.kill()
                raise DemoError(f"the server did not start:\n{self.said()}")
            sleep(POLL_S)
        self.target = said[1]

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._log.close()

    def said(self) -> str:
        """What the server wrote so far."""
        return os.pread(self._log.fileno(), LOG_BYTES, 0).decode(errors="replace")

    def stop(self) -> None:
        """Ask it to stop by SIGTERM and wait. DemoError if it does not end well."""
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            raise DemoError(f"the server did not stop within {STOP_S:.0f} s:\n{self.said()}") from None
        if code != 0:
            raise DemoError(f"the server ended with {code}:\n{self.said()}")

    def kill(self) -> None:
        """End it at once, if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
