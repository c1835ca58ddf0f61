"""LMDB updated in place: the swipe without an engine, 8,192 a durable commit, in a Rust program.

Setting: LMDB's defaults (a commit is two flushes), one thread, no Python; records of 40 bytes a card and a
store, 24 bytes a key, 144 bytes a journal row, found by number. The program is
bench/driver/src/bin/in_place.rs; it draws the swipes itself and reads the books again afterwards.

What differs from the engine: keys are kept for ever, no hash chain, no statement, no feed; the issuer's
accounts and the points pool are split over the stores' records.
"""

import json
import os
import statistics
from dataclasses import asdict, replace
from pathlib import Path

from bench.chain import expect
from bench.peers.peer import Peer, Plan, call, directory, missing
from bench.peers.swipe import check_books, numbers

ROOT = Path(__file__).parents[2]
PEER = Peer("LMDB in place", "LMDB's defaults, 8,192 swipes a commit, in Rust, in process")
INSTALL = "not built: cargo is not installed; `sh tools/need.sh` says how"


def run(plan: Plan) -> Peer:
    """Accounts updated in place."""
    if missing(["cargo"]):
        return replace(PEER, absent=INSTALL)
    plan.progress(f"{PEER.name}: builds its program")
    manifest = ROOT / "Cargo.toml"
    build: list[Path | str] = [
        "cargo",
        "build",
        "--quiet",
        "--release",
        "--locked",
        "--manifest-path",
        manifest,
    ]
    call([*build, "--package", "onecard-driver", "--bin", "in_place"])
    program = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "in_place"
    with directory("in-place") as home:
        plan.progress(f"{PEER.name}: {plan.runs} runs over {plan.cards:,} cards")
        given = ["--numbers", json.dumps(asdict(numbers(plan.cards)))]
        timed = ["--seconds", str(plan.seconds), "--runs", str(plan.runs)]
        found = json.loads(call([program, "--directory", home, *given, *timed]))
    rates = found["swipes_per_s"]
    expect(len(rates) == plan.runs, f"{PEER.name}: {len(rates)} runs instead of {plan.runs}")
    check_books(PEER.name, found["books"], found["posted"])
    return replace(
        PEER,
        swipes_per_s=statistics.median(rates),
        swipes_per_s_min=min(rates),
        swipes_per_s_max=max(rates),
    )
