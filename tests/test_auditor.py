"""The auditor against a journal that is encoded by hand.

The journal is whole, so the auditor must find nothing; each way of damaging or forging it, hashes made
good, must be found and named.
"""

import copy
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from onecard import verify
from tests import auditor
from tests.auditor import form
from tests.by_hand import DAY, raw, sint, text, uint, write
from tests.recorder.shop import Till, open_engine, set_up

ROOT = Path(__file__).resolve().parent.parent
CARD = "00012345"


TABLES = json.dumps(
    {
        "products": [{"id": 1, "accrual": 10**14}],
        "top_up_bonus": [{"from": 10_000, "bonus": 500, "rate": 0}],
        "compounding_rate": 10**8,
    }
)


def whole_journal() -> list[dict[str, Any]]:
    """A small chain's day: registered, funded, sold, refunded, undone, closed, and grown."""
    at = {"terminal": 1, "store": 1, "date": DAY}
    undone = (DAY, bytes([0]) + uint(1) + uint(5))
    unknown = (DAY - 1, bytes([1]) + bytes(15) + b"\x07")
    return [
        raw(32, text("programme"), uint(DAY)),
        raw(33, uint(1), text("merchant")),
        raw(34, uint(1), uint(1), text("first")),
        raw(34, uint(2), uint(1), text("second")),
        raw(35, uint(1), uint(1)),
        raw(35, uint(2), uint(2)),
        raw(36, uint(1), text("# rules"), text(TABLES)),
        {**at, "kind": 1, "trace": 1, "card": (0, 0), "number": CARD, "balances": (0, 0, 0)},
        {**at, "kind": 2, "trace": 2, "card": (0, 1), "amount": 10_000, "balances": (10_000, 500, 0)}
        | {"moves": [(17, 1, 10_000), (32, 2, 500)]},
        {
            **at,
            "kind": 8,
            "id": bytes(15) + b"\x01",
            "amount": 1_000_000,
            "moves": [(40, 41, 1_000_000)],
        },
        {**at, "kind": 3, "trace": 4, "terminal": 2, "store": 2, "card": (0, 2), "amount": 2_000}
        | {"moves": [(1, 16, 1_500), (2, 16, 500), (40, 3, 200_000)]}
        | {"balances": (8_500, 0, 200_000)},
        {**at, "kind": 4, "trace": 5, "card": (0, 1), "amount": 1_000, "original": 11, "details": True}
        | {"moves": [(16, 1, 750), (16, 2, 250), (3, 40, 100_000)]}
        | {"changes": [(1, uint(11) + uint(1_000))], "balances": (9_250, 250, 100_000)},
        {**at, "kind": 5, "trace": 6, "terminal": 2, "card": (0, 1), "original_key": undone, "details": True}
        | {"moves": [(40, 3, 100_000), (1, 16, 750), (2, 16, 250)]}
        | {
            "changes": [(2, uint(12) + uint(1_000)), (1, uint(11) + uint(0))],
            "balances": (8_500, 0, 200_000),
        },
        {
            **at,
            "kind": 3,
            "code": 51,
            "trace": 7,
            "card": (0, 1),
            "amount": 99_999,
            "balances": (8_500, 0, 200_000),
        },
        {**at, "kind": 3, "code": 14, "trace": 8, "missing": "12345678", "amount": 100, "asked": 1},
        {**at, "kind": 7, "trace": 9, "card": (0, 2), "status": 2, "balances": (8_500, 0, 200_000)}
        | {"changes": [(4, b"\x02")]},
        {**at, "kind": 7, "trace": 10, "card": (0, 1), "status": 1, "balances": (8_500, 0, 200_000)}
        | {"changes": [(4, b"\x01")]},
        {**at, "kind": 5, "trace": 11, "original_key": unknown, "changes": [(3, b"")]},
        {
            "kind": 40,
            "date": DAY,
            "rule": 1,
            "algorithm": 1,
            "rate": 10**8,
            "outstanding": 200_000,
            "purses": 1,
        }
        | {"reserve": 21, "funded": 1, "legs": [(41, -21), (42, 21)]},
        {"kind": 41, "date": DAY, "members": 8_500, "bonus": -500, "points": 0, "units": 0}
        | {"legs": [(17, 1, 10_000), (18, 1, -10_000), (16, 2, -2_000), (18, 2, 2_000)]},
        {**at, "kind": 2, "trace": 12, "posted": DAY + 1, "card": (0, 4), "amount": 100}
        | {"moves": [(17, 1, 100)], "balances": (8_600, 0, 200_020)},
        {"kind": 42, "date": DAY, "algorithm": 1, "growth": 20, "legs": [(42, -21), (43, 1, 20), (41, 1)]}
        | {"liabilities": [(1, 200_020)]},
    ]


def test_a_whole_journal_is_whole(tmp_path: Path) -> None:
    report = auditor.audit(write(tmp_path / "data", whole_journal()))
    assert report.problems == []
    assert (report.entries, report.blocks, report.cards, report.transactions) == (22, 5, 1, 12)
    assert report.sums == {"1": {"money": 0, "points": 0}}
    assert report.grown == {"1": 20}
    assert report.open_dates == {"1": DAY + 1}
    assert report.codes == {"0": 10, "51": 1, "14": 1}


# Entry (by sequence), field, forged value, and what the auditor must say.
FORGERIES: list[tuple[int, str, Any, str]] = [
    (9, "moves", [(17, 1, 10_000), (32, 2, 500), (3, 1, 1)], "money legs sum to 1"),
    (9, "moves", [(17, 1, 10_000), (32, 2, 500), (1, 3, 7)], "points legs sum to 7"),
    (9, "moves", [(17, 1, 10_000), (32, 2, 500), (33, 2, 0)], "a leg of zero"),
    (9, "moves", [(17, 1, 10_000), (6, 2, 500)], "a plain move between accounts at 5 and 1"),
    (9, "moves", [(17, 1, 10_000), (32, 2, 500), (2, 2, 1)], "from an account to itself"),
    (9, "moves", [(17, 1, 700)] * 13, "13 moves"),
    (9, "moves", [(17, 1, 10_001), (32, 2, 500)], "account 1 of card 0 changes by 10001, and not by 10000"),
    (9, "balances", (10_000, 501, 0), "balances (10000, 501, 0), rebuilt (10000, 500, 0)"),
    (9, "card", (0, 2), "its card's entry before is 8"),
    (9, "card", (1, 1), "unknown card index 1"),
    (9, "trace", 1, "posted twice"),
    (9, "trace", 0, "a key of zero"),
    (9, "date", DAY - 7, "7 days before the open day"),
    (9, "date", DAY + 1, "-1 days before the open day"),
    (9, "posted", DAY + 1, "posted on 20001, open is 20000"),
    (9, "terminal", 3, "unknown terminal 3"),
    (9, "store", 2, "store 2, and not 1"),
    (8, "card", (1, 0), "card index 1 is not the next one"),
    (10, "amount", 999_999, "not the amount funded"),
    (
        11,
        "moves",
        [(1, 16, 1_600), (2, 16, 400), (40, 3, 200_000)],
        "rebuilt (8400, 100, 200000)",
    ),
    (12, "original", 10, "refund of what is not an approved sale, top-up or grant"),
    (12, "amount", 1_001, "are not [(1, 11, 1001)]"),
    (
        12,
        "moves",
        [(16, 1, 751), (16, 2, 249), (3, 40, 100_000)],
        "account 1 of card 0 changes by 751, and not by 750",
    ),
    (12, "changes", [], "changes [] are not [(1, 11, 1000)]"),
    (13, "changes", [(1, uint(11) + uint(0))], "are not [(2, 12, 1000), (1, 11, 0)]"),
    (
        13,
        "changes",
        [(2, uint(12) + uint(999)), (1, uint(11) + uint(0))],
        "changes [(2, 12, 999), (1, 11, 0)] are not",
    ),
    (
        13,
        "moves",
        [(40, 3, 100_000), (1, 16, 700), (2, 16, 300)],
        "rebuilt (8550, -50, 200000)",
    ),
    (14, "moves", [(1, 16, 1)], "a refusal with moves"),
    (14, "code", 99, "a code that is not kept"),
    (15, "missing", CARD, "card number 00012345 is known"),
    (16, "changes", [(4, b"\x01")], "changes [(4, 1)] are not [(4, 2)]"),
    (17, "changes", [], "changes [] are not [(4, 1)]"),
    (18, "original_key", (DAY, bytes([0]) + uint(1) + uint(2)), "voids a key that is there"),
    (19, "outstanding", 200_001, "outstanding points are 200000"),
    (19, "reserve", 22, "the reserve is 21"),
    (19, "funded", 0, "funding is 1000000 for a reserve of 21"),
    (20, "members", 8_501, "what members hold changed by 8500"),
    (20, "date", DAY + 1, "date 20001, open is 20000"),
    (
        20,
        "legs",
        [(17, 1, 10_000), (18, 1, -8_000), (16, 2, -2_000)],
        "are not [(17, 1, 10000), (18, 1, -10000), (16, 2, -2000), (18, 2, 2000)]",
    ),
    (21, "balances", (8_600, 0, 200_019), "rebuilt (8600, 0, 200020)"),
    (22, "growth", 21, "growth recomputed from the lots is 20"),
    (22, "legs", [(42, -21), (43, 1, 21)], "are not [(42, None, -21), (43, 1, 20), (41, None, 1)]"),
    (22, "legs", [(42, -21), (43, 2, 20), (41, 1)], "are not [(42, None, -21), (43, 1, 20), (41, None, 1)]"),
    (22, "legs", [(42, -21), (43, 20), (41, 1)], "are not [(42, None, -21), (43, 1, 20), (41, None, 1)]"),
    (22, "liabilities", [(1, 200_000)], "liabilities are not [(1, 200020)]"),
    (22, "liabilities", [(2, 200_020)], "liabilities are not [(1, 200020)]"),
    (22, "date", DAY + 1, "another growth"),
]


@pytest.mark.parametrize(("sequence", "name", "value", "problem"), FORGERIES)
def test_a_forged_entry_is_found(tmp_path: Path, sequence: int, name: str, value: Any, problem: str) -> None:
    entries = copy.deepcopy(whole_journal())
    entries[sequence - 1][name] = value
    report = auditor.audit(write(tmp_path / "data", entries))
    assert any(problem in found for found in report.problems), report.problems


def test_an_entry_that_is_gone_or_doubled_is_found(tmp_path: Path) -> None:
    gone, doubled = whole_journal(), whole_journal()
    del gone[8]
    doubled.insert(9, doubled[8])
    assert auditor.audit(write(tmp_path / "gone", gone)).problems
    assert any(
        "posted twice" in found for found in auditor.audit(write(tmp_path / "doubled", doubled)).problems
    )


def flip(at: int) -> Callable[[bytearray], None]:
    def harm(block: bytearray) -> None:
        block[at] ^= 1

    return harm


def rehash(at: int) -> Callable[[bytearray], None]:
    def harm(block: bytearray) -> None:
        block[at] ^= 1
        block[-32:] = hashlib.sha256(block[:-32]).digest()

    return harm


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        (flip(70), "block 6: its hash is not that of its content"),
        (flip(-1), "block 6: its hash is not that of its content"),
        (rehash(0), "block 6: magic"),
        (rehash(4), "block 6: magic"),
        (rehash(8), "block 6: first sequence 7 under key 6"),
        (rehash(40), "block 6: does not follow the block before"),
        (rehash(16), "block 11: does not follow the block before"),
        (rehash(-50), "block 6: its offset table does not cover its entries"),
    ],
)
def test_a_damaged_block_is_named(tmp_path: Path, harm: Callable[[bytearray], None], problem: str) -> None:
    report = auditor.audit(write(tmp_path / "data", whole_journal(), harm))
    assert any(found.startswith(problem) for found in report.problems), report.problems


@pytest.mark.parametrize("tail", [b"\x00", b"\x80"])
def test_bytes_that_do_not_decode_are_found(tmp_path: Path, tail: bytes) -> None:
    entries = whole_journal()
    entries[5]["raw"] += tail
    assert any(
        "bytes after the end" in found for found in auditor.audit(write(tmp_path / "a", entries)).problems
    )
    entries[5]["raw"] = entries[5]["raw"][:-2]
    assert any("ends too early" in found for found in auditor.audit(write(tmp_path / "b", entries)).problems)


def test_numbers_of_the_format() -> None:
    for value in (0, 1, -1, 63, 64, -64, -65, 2**63 - 1, -(2**63), 2**126, -(2**126)):
        assert form.Reader(sint(value)).signed() == value
    with pytest.raises(form.Damage, match="longer than"):
        form.Reader(b"\x06\x00").uint()
    with pytest.raises(form.Damage, match="need not be"):
        form.Reader(b"\x00\x05" + bytes(15)).uint()
    with pytest.raises(form.Damage, match="too early"):
        form.Reader(b"\x80" + bytes(6)).uint()


def test_command_line(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole", whole_journal())
    harmed = write(tmp_path / "harmed", whole_journal(), flip(70))
    program = [sys.executable, "-m", "tests.auditor"]
    good = subprocess.run(
        [*program, str(whole), "--json"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert json.loads(good.stdout)["entries"] == 22
    bad = subprocess.run(
        [*program, str(whole), str(harmed)], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert bad.returncode == 1
    assert "its hash is not that of its content" in bad.stdout
    lines = subprocess.run(
        [*program, "-"], input=f"{whole}\n{harmed}\n", capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert [bool(json.loads(line)["problems"]) for line in lines.stdout.splitlines()] == [False, True]


def test_auditor_and_engine_agree(tmp_path: Path) -> None:
    """A journal of the engine's, audited in another process: the same entries, chain, sums and balances."""
    till = Till(21)
    with open_engine(tmp_path) as engine:
        set_up(engine)
        engine.execute(till.opening())
        for number in range(60):
            engine.execute(till.batch(40))
            if number % 9 == 8:
                assert engine.close_day(till.day).code == 0
                till.day += 1
        books = engine.trial_balance()
    program = [sys.executable, "-m", "tests.auditor", str(tmp_path), "--json"]
    report = json.loads(subprocess.run(program, capture_output=True, text=True, check=True, cwd=ROOT).stdout)
    assert report["problems"] == []
    assert (report["entries"], report["cards"]) == (books.entries, books.cards)
    assert report["sums"] == {"1": {"money": 0, "points": 0}}
    assert report["open_dates"] == {"1": till.day}
    totals = {int(account): total for account, total in report["totals"]["1"].items()}
    totals[form.POINTS] += totals.pop(form.GROWTH)  # what the cards hold has their growth in it
    assert totals == {account: total for account, total in books.totals.items() if account in totals}
    assert not any(total for account, total in books.totals.items() if account not in totals)
    assert report["grown"]["1"] > 0
    found = verify(tmp_path)
    assert (report["head"], report["blocks"], report["bytes"]) == (found.head, found.blocks, found.bytes)
    assert set(report["codes"]) == {"0", "12", "13", "14", "51", "62"}
