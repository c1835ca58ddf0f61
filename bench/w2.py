"""W2: swipes as unary gRPC calls over loopback, each distinct, sent by the native driver.

The server runs in a process of its own, the driver in another, on the same machine. The closed loop gives
the calls a second, the open loop at half of that rate the latencies, from the intended send time.
`empty_handler` is the same driver calling the health check of the same server. Afterwards the journal must
have grown by exactly the entries that were answered.
"""

import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.chain import DAY, STORES, BenchError, build, expect
from onecard import Client, Engine

ROOT = Path(__file__).parent.parent
START_S = 60.0


def run(cards: int, seconds: float, runs: int, in_flight: int) -> dict[str, object]:
    """Figures of the workload."""
    driver = _driver()
    with tempfile.TemporaryDirectory(prefix="onecard-w2-") as directory:
        path = Path(directory) / "data"
        with Engine(path) as engine:
            build(engine, cards)
        server, target = _serve(path)
        try:
            return _measure(driver, target, cards, seconds, runs, in_flight)
        finally:
            server.send_signal(signal.SIGTERM)
            expect(server.wait(60) == 0, "the server did not end well")


def _measure(
    driver: Path, target: str, cards: int, seconds: float, runs: int, in_flight: int
) -> dict[str, object]:
    with Client(target) as client:
        before = client.trial_balance().entries
        trace, posted = 1, 0
        swipes: list[dict[str, Any]] = []
        empty: list[dict[str, Any]] = []

        def drive(mode: str, rate: float | None = None) -> dict[str, Any]:
            nonlocal trace, posted
            command = [str(driver), "--target", target, "--mode", mode, "--in-flight", str(in_flight)]
            command += ["--seconds", str(seconds), "--cards", str(cards), "--terminals", str(STORES)]
            command += ["--date", DAY.strftime("%Y%m%d"), "--first-trace", str(trace)]
            command += ["--rate", str(rate)] if rate else []
            found: dict[str, Any] = json.loads(
                subprocess.run(command, check=True, capture_output=True).stdout
            )
            expect(found["errors"] == 0, f"calls failed: {found['error']}")
            trace = max(trace, found["next_trace"])
            posted += found["posted"]
            return found

        for _ in range(runs):
            empty.append(drive("empty"))
            swipes.append(drive("unary"))
        rate = statistics.median(found["calls_per_s"] for found in swipes)
        half = drive("unary", rate / 2)
        entries = client.trial_balance().entries
        expect(entries == before + posted, f"{entries - before} entries for {posted} answers that were kept")
    floor = statistics.median(found["calls_per_s"] for found in empty)
    refused = sum(found["refused"] for found in swipes)
    return {
        "id": "W2",
        "cards": cards,
        "in_flight": in_flight,
        "runs": runs,
        "seconds_per_run": seconds,
        "calls_per_s": round(rate),
        "calls_per_s_min": round(min(found["calls_per_s"] for found in swipes)),
        "calls_per_s_max": round(max(found["calls_per_s"] for found in swipes)),
        "closed_loop_p99_ms": statistics.median(found["p99_ms"] for found in swipes),
        "open_loop_calls_per_s": round(half["calls_per_s"]),
        "p50_ms": half["p50_ms"],
        "p99_ms": half["p99_ms"],
        "p999_ms": half["p999_ms"],
        "entries_checked": posted,
        "refused": refused,
        "empty_handler_calls_per_s": round(floor),
        "ratios": {"empty_handler": round(rate / floor, 3)},
    }


def _driver() -> Path:
    command = ["cargo", "build", "--release", "--locked", "--package", "onecard-driver"]
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=sys.stderr)
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "onecard-driver"


def _serve(path: Path) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-m", "onecard", "serve", str(path), "--listen", "127.0.0.1:0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + START_S
    while server.stdout and time.monotonic() < deadline:
        line = server.stdout.readline()
        if found := re.match(r"listening on (\S+)", line):
            return server, found[1]
        if not line:
            break
    server.kill()
    raise BenchError("the server did not start")
