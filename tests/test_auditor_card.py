"""The auditor against a journal of the whole card that is encoded by hand, and against forgeries of it."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from tests import auditor
from tests.by_hand import DAY, raw, text, uint, write

ANNA, BEN, NEW = "10000001", "10000002", "20000001"
WASH, OFF = 16, 18
TODAY, TOMORROW = (0, DAY), (0, DAY + 1)

CURSOR = {"kind": 13, "unit": 5, "amount": 31, "low": 1}

TABLES = json.dumps(
    {
        "products": [{"id": 1, "accrual": 10**12}],
        "compounding_rate": 10**9,
        "units": [
            {"id": WASH, "name": "wash", "kind": "visits", "worth": 300},
            {"id": OFF, "name": "off", "kind": "coupon", "value": 70},
        ],
        "bundles": [
            {"id": 1, "name": "washes", "price": 200, "per_card": 2, "per_member": 1}
            | {
                "grants": [
                    {"unit": WASH, "amount": 10, "days": 1},
                    {"unit": OFF, "amount": 2},
                    {"unit": 3, "amount": 5_000, "days": 2},
                ]
            },
        ],
        "tiers": [{"id": 1, "name": "silver", "from": 10}, {"id": 5, "name": "gold", "from": 20}],
    }
)


def washes(**more: Any) -> dict[str, Any]:
    """A move's fields: washes of the lot of the first day."""
    return {"unit": WASH, "dates": TODAY} | more


def card_of(card: str) -> dict[str, int]:
    return {"digits": len(card), "low": int(card)}


def registered() -> list[dict[str, Any]]:
    at = {"terminal": 1, "store": 1, "date": DAY}
    empty = {**at, "kind": 1, "balances": (0, 0, 0)}
    return [
        raw(32, text("programme"), uint(DAY)),
        raw(33, uint(1), text("merchant")),
        raw(34, uint(1), uint(1), text("store")),
        raw(35, uint(1), uint(1)),
        raw(36, uint(1), text("# rules"), text(TABLES)),
        {**empty, "card": (0, 0), "number": ANNA},
        {**empty, "card": (1, 0), "number": BEN},
        {**at, "kind": 2, "card": (0, 2), "amount": 1_000, "moves": [(17, 1, 1_000)]}
        | {"balances": (1_000, 0, 0)},
        {**at, "kind": 2, "card": (1, 2), "amount": 500, "moves": [(17, 1, 500)], "balances": (500, 0, 0)},
        {**at, "kind": 8, "amount": 1_000_000, "moves": [(40, 41, 1_000_000)]},
    ]


def first_day() -> list[dict[str, Any]]:
    """Granted, sold for everything that pays, held, captured and refunded; closed with a lapse, and grown."""
    at = {"terminal": 1, "store": 1, "date": DAY, "details": True}
    coupon, wash = {"kind": 1, "unit": OFF, "amount": 1}, {"kind": 3, "unit": WASH, "amount": 1}
    return [
        {**at, "kind": 9, "card": (0, 3), "product": 1, "amount": 1, "changes": [(5, uint(1) + uint(1))]}
        | {"moves": [(17, 34, 200), (44, 6, 10, washes()), (44, 6, 2, {"unit": OFF})]}
        | {"balances": (1_000, 0, 5_000), "purses": [(0, WASH, 10), (0, OFF, 2)]},
        {**at, "kind": 3, "card": (0, 1), "further": [(1, 3)], "amount": 2_220, "cash": 50}
        | {"items": [coupon, wash | {"amount": 2}, {"kind": 4, **card_of(BEN)}, {"kind": 6, "amount": 100}]}
        | {"moves": [(6, 44, 1, {"unit": OFF}), (34, 16, 70, {"unit": OFF}), (6, 44, 2, washes())]}
        | {"balances": (0, 0, 6_550)}
        | {"purses": [(1, 1, 0), (1, 2, 0), (1, 3, 0), (0, OFF, 1), (0, WASH, 8)]},
        {**at, "kind": 2, "card": (0, 1), "amount": 1_000, "moves": [(17, 1, 1_000)], "details": False}
        | {"balances": (1_000, 0, 6_550)},
        {**at, "kind": 10, "card": (0, 1), "amount": 370, "expires": DAY + 1, "items": [wash]}
        | {"moves": [(6, 44, 1, washes()), (34, 16, 300, {"unit": WASH}), (1, 16, 70)]}
        | {"changes": [(12, uint(DAY + 1) + uint(370) + uint(70) + uint(0) + uint(0))]}
        | {"balances": (1_000, 0, 6_550), "purses": [(0, WASH, 8)]},
        {**at, "kind": 11, "card": (0, 1), "amount": 335, "original": 14}
        | {"moves": [(6, 44, 1, washes()), (34, 16, 300, {"unit": WASH}), (1, 16, 35), (40, 3, 63)]}
        | {"changes": [(13, uint(14) + uint(335) + uint(0))]}
        | {"balances": (965, 0, 6_613), "purses": [(0, WASH, 7)]},
        {**at, "kind": 4, "card": (0, 1), "further": [(1, 4)], "amount": 1_110, "original": 12, "cash": 25}
        | {"moves": [(16, 1, 500), (16, 1, 250, {"card": 1}), (16, 34, 35, {"unit": OFF})]}
        | {"changes": [(1, uint(12) + uint(1_110))], "balances": (1_465, 0, 5_838)}
        | {"purses": [(1, 1, 250), (1, 2, 0), (1, 3, 0), (0, WASH, 8)]},
        {"kind": 43, "date": DAY, "legs": [(6, WASH, -8), (44, WASH, 8)]},
        {"kind": 40, "date": DAY, "rule": 1, "algorithm": 1, "rate": 10**9, "outstanding": 5_838}
        | {"purses": 3, "reserve": 8, "funded": 1, "legs": [(41, -8), (42, 8)]},
        {"kind": 41, "date": DAY, "members": 1_715, "bonus": 0, "points": 0, "units": -435}
        | {"legs": [(16, 1, -1_420), (17, 1, 2_700), (18, 1, -1_280)]},
        {"kind": 42, "date": DAY, "algorithm": 1, "growth": 5, "legs": [(42, -8), (43, 1, 5), (41, 3)]}
        | {"liabilities": [(1, 5_843)]},
    ]


def second_day() -> list[dict[str, Any]]:
    """Value goes over, the hold is let off; number, codes, PIN, holder and alias change; a card is closed."""
    at = {"terminal": 1, "store": 1, "date": DAY + 1, "details": True}
    code = {"kind": 2, "unit": OFF, "high": 7, "low": 2}
    alias = {"kind": 8, "digits": 1, "high": 5, "low": 6}
    left = {"balances": (1_365, 0, 5_843)}
    change = bytes([41, 8]) + int(NEW).to_bytes(8, "little") + b"\x08" + int(ANNA).to_bytes(8, "little")
    hashed = bytes(range(16))
    return [
        {**at, "kind": 14, "card": (1, 5), "further": [(0, 5)], "product": 1, "amount": 100}
        | {"items": [{"kind": 4, **card_of(ANNA)}], "moves": [(1, 46, 100, {"card": 1}), (46, 1, 100)]}
        | {"balances": (350, 0, 0), "purses": [(1, 1, 1_365), (1, 2, 0), (1, 3, 5_843)]},
        {**at, "kind": 12, "card": (0, 1), "original": 14, "changes": [(13, uint(14) + uint(335) + uint(1))]}
        | left,
        {**at, "kind": 13, "card": (0, 1), "status": 3, "items": [{"kind": 9, **card_of(NEW)}]}
        | {"changes": [(10, change), (4, b"\x01")]}
        | left,
        {**at, "kind": 19, "product": OFF, "amount": 5, "moves": [(44, 45, 5, {"unit": OFF})]}
        | {"changes": [(14, uint(OFF) + uint(1) + uint(5) + uint(0))]},
        {**at, "kind": 3, "card": (0, 2), "amount": 70, "items": [code]}
        | {"moves": [(45, 44, 1, {"unit": OFF}), (34, 16, 70, {"unit": OFF})]}
        | {"changes": [(15, uint(OFF) + uint(2) + uint(1))]}
        | left,
        {**at, "kind": 5, "card": (0, 1), "original": 25}
        | {"moves": [(44, 45, 1, {"unit": OFF}), (16, 34, 70, {"unit": OFF})]}
        | {"changes": [(15, uint(OFF) + uint(2) + uint(0)), (2, uint(25) + uint(70))]}
        | left,
        {**at, "kind": 17, "card": (0, 1), "asked": 32, "changes": [(8, uint(1) + bytes(8) + hashed)]} | left,
        {**at, "kind": 3, "code": 55, "card": (0, 1), "amount": 70, "changes": [(7, uint(0) + uint(1))]}
        | left,
        {**at, "kind": 15, "card": (0, 1), "items": [{"kind": 10, "low": 99, "amount": 1}]}
        | {"changes": [(9, uint(99) + uint(1))]}
        | left,
        {**at, "kind": 16, "card": (0, 1), "items": [alias]}
        | {"changes": [(11, b"\x01\x01" + (5).to_bytes(8, "big") + (6).to_bytes(8, "big"))]}
        | left,
        {**at, "kind": 18, "card": (1, 10), "moves": [(1, 17, 350)], "changes": [(4, b"\x06")]}
        | {"balances": (0, 0, 0)},
        {**at, "kind": 2, "code": 41, "missing": ANNA, "amount": 100, "details": False},
        {**at, "kind": 9, "code": 46, "card": (1, 2), "product": 1, "amount": 1, "items": [CURSOR]}
        | {"changes": [(18, uint(5) + uint(31) + uint(1))], "balances": (0, 0, 0)},
        {**at, "kind": 9, "code": 57, "card": (1, 1), "product": 1, "amount": 1, "items": [CURSOR]}
        | {"reason": 13, "balances": (0, 0, 0)},
        {**at, "kind": 21, "card": (0, 5), "product": 5, "items": [CURSOR | {"amount": 32, "low": 0}]}
        | {"changes": [(18, uint(5) + uint(32) + uint(0)), (17, uint(5) + uint(0))]}
        | left,
        {**at, "kind": 21, "code": 57, "card": (0, 1), "product": 1, "reason": 16}
        | {"items": [CURSOR | {"amount": 33, "low": 0}], "changes": [(18, uint(5) + uint(33) + uint(0))]}
        | left,
    ]


def journal() -> list[dict[str, Any]]:
    """All of it; keys are traces in the order of the entries."""
    entries = [*registered(), *first_day(), *second_day()]
    entries[10]["moves"].append((40, 3, 5_000, {"dates": TOMORROW}))
    entries[11]["moves"] += [(34, 16, 600, {"unit": WASH}), (1, 16, 1_000), (1, 16, 500, {"card": 1})]
    entries[11]["moves"].append((40, 3, 1_550))
    entries[15]["moves"] += [(16, 34, 300, {"unit": WASH}), (44, 6, 1, washes()), (3, 40, 775)]
    for trace, entry in enumerate(entries, 1):
        if entry.get("kind", 40) < 40:
            entry["trace"] = trace
    return entries


def test_the_whole_card_is_whole(tmp_path: Path) -> None:
    report = auditor.audit(write(tmp_path / "data", journal()))
    assert report.problems == []
    assert (report.entries, report.cards, report.open_dates) == (36, 2, {"1": DAY + 1})
    assert report.sums == {"1": {"money": 0, "points": 0, "unit 16": 0, "unit 18": 0}}
    assert report.units["1"] == {"16": {"6": 0, "44": 0, "45": 0}, "18": {"6": 1, "44": -6, "45": 5}}


def moved(sequence: int, at: int, *move: Any) -> list[Any]:
    """The moves of an entry with another one at a place, or without it."""
    moves = list(journal()[sequence - 1]["moves"])
    moves[at : at + 1] = [move] if move else []
    return moves


ITEMS = journal()[11]["items"]

# Entry (by sequence), field, forged value, and what the auditor must say.
FORGERIES: list[tuple[int, str, Any, str]] = [
    (
        11,
        "moves",
        moved(11, 1, 44, 6, 11, washes()),
        "of unit 16 valid 0 to 20000 changes by 11",
    ),
    (
        11,
        "moves",
        moved(11, 1, 44, 6, 10, {"unit": WASH, "dates": TOMORROW}),
        "to 20001 changes by 10, and",
    ),
    (11, "moves", moved(11, 0, 17, 34, 199), "paid 199 of a price of 200"),
    (11, "moves", moved(11, 0, 35, 34, 200), "paid 200 of a price of 200"),
    (11, "moves", moved(11, 2, 40, 6, 2, {"unit": OFF}), "a move from account 40 to 6: other units"),
    (11, "moves", moved(11, 2, 44, 6, 2), "a move of unit 0"),
    (11, "moves", moved(11, 0, 17, 34, 200, {"unit": OFF, "dates": TODAY}), "dates where no lot is"),
    (11, "moves", moved(11, 0, 17, 34, 200, {"card": 1}), "card 1 of 0"),
    (11, "changes", [], "changes [] are not [(5, 1, 1)]"),
    (33, "changes", [], "cursors moved to [], and not to [(5, 31, 1)]"),
    (33, "changes", [(18, uint(5) + uint(31) + uint(0))], "cursors moved to [(5, 31, 0)], and not to"),
    (33, "items", [CURSOR | {"low": 0}], "the cursor names card 0"),
    (33, "items", [CURSOR | {"low": 7}], "the cursor names card None"),
    (33, "items", [CURSOR | {"digits": 8}], "in a kind 9"),
    (34, "changes", [(18, uint(5) + uint(31) + uint(1))], "and not to []"),
    (34, "items", [CURSOR | {"amount": 32}], "cursors moved to [], and not to [(5, 32, 1)]"),
    (34, "reason", 14, "reason 14"),
    (34, "reason", 3, "code 57, reason 3 of a cursor"),
    (35, "product", 1, "tiers [(17, 5, 0)] are not [(17, 1, 0)]"),
    (35, "product", 4, "no tier 4"),
    (36, "product", 5, "refused for no higher tier"),
    (36, "code", 61, "refused for no higher tier"),
    (36, "code", 0, "a trigger lowers a tier"),
    (11, "amount", 2, "granted 2 of 1 to a member"),
    (11, "amount", 3, "granted 3 of 2"),
    (11, "purses", [(0, WASH, 9), (0, OFF, 2)], "purse 16 of card 0 has 9, rebuilt 10"),
    (11, "purses", [(0, WASH, 10)], "1 bytes after the end of the entry"),
    (12, "further", [(1, 2)], "its card's entry before is 9"),
    (12, "further", [(0, 1)], "a card stands at two places"),
    (12, "items", ITEMS[:2] + ITEMS[3:], "further cards [1], the items name []"),
    (12, "items", ITEMS[1:], "1 of unit 18, and not 0"),
    (12, "items", [*ITEMS[:3], {"kind": 6, "amount": 49}], "50 of 49 in cash"),
    (12, "items", [*ITEMS, {"kind": 7, **card_of(BEN)}], "changes [] are not [(16, 1, 2220)]"),
    (12, "items", [*ITEMS, {"kind": 10, "low": 1}], "in a kind 3"),
    (12, "cash", 51, "paid 2221 of a bill of 2220"),
    (12, "unpaid", 1, "code 0, 1 left to pay"),
    (12, "moves", moved(12, 5, 1, 16, 500), "lot (1, 0, 0) has not so much as 500"),
    (12, "moves", moved(12, 1, 34, 16, 71, {"unit": OFF}), "unit 18 pays more than it is worth"),
    (
        12,
        "moves",
        moved(12, 2, 6, 44, 2, {"unit": WASH}),
        "lot (16, 0, 0) has not so much as 2",
    ),
    (12, "moves", moved(12, 6, 40, 3, 1_551), "earned 1551 from account 40, and not 1550"),
    (12, "moves", moved(12, 6, 40, 3, 1_550, {"dates": TODAY}), "earned for (0, 20000), and not for (0, 0)"),
    (12, "purses", journal()[11]["purses"][3:], "the entry ends too early"),
    (
        14,
        "changes",
        [(12, uint(DAY + 1) + uint(371) + uint(70) + uint(0) + uint(0))],
        "not [(12, 20001, 370, 70, 0, 0)]",
    ),
    (14, "moves", moved(14, 0, 6, 44, 9, washes()), "holds 9 of lot (16, 0, 20000), which has not so much"),
    (14, "expires", DAY - 1, "a hold that ended before it began"),
    (15, "moves", moved(15, 0, 6, 44, 2, washes()), "captures not what is held"),
    (15, "moves", moved(15, 1), "captures not what is held"),
    (15, "moves", moved(15, 3, 40, 3, 64), "earned 64 from account 40, and not 63"),
    (15, "changes", [(13, uint(14) + uint(335) + uint(1))], "are not [(13, 14, 335, 0)]"),
    (15, "original", 12, "a kind 11 of what holds nothing"),
    (16, "moves", moved(16, 1, 16, 1, 250), "account 1 of card 1 changes by 0, and not by 250"),
    (
        16,
        "moves",
        moved(16, 4, 44, 6, 1, {"unit": WASH}),
        "of unit 16 changes by 1, and not by 0",
    ),
    (16, "moves", moved(16, 5, 3, 40, 774), "account 3 of card 0 changes by -774, and not by -775"),
    (16, "cash", 24, "24 in cash, and not 25"),
    (16, "further", [], "card 1 of 0"),
    (17, "legs", [(6, WASH, -7), (44, WASH, 7)], "are not [(6, 16, -8), (44, 16, 8)]"),
    (17, "legs", [], "legs [] are not"),
    (18, "purses", 2, "there are 3 purses of points"),
    (19, "units", -434, "accounts 34 and 35 changed by -435"),
    (20, "growth", 6, "growth recomputed from the lots is 5"),
    (21, "moves", [(1, 46, 100, {"card": 1}), (46, 1, 99)], "something is still in transit"),
    (21, "product", 3, "a move from 1 to 46"),
    (21, "amount", 101, "100 went, 100 came of 101"),
    (22, "changes", [(13, uint(14) + uint(336) + uint(1))], "are not [(13, 14, 335, 1)]"),
    (23, "status", 4, "are not [(10, 43, 8, 20000001, 8, 10000001), (4, 1)]"),
    (24, "changes", [(14, uint(OFF) + uint(2) + uint(5) + uint(0))], "are not [(14, 18, 1, 5, 0)]"),
    (25, "items", [{"kind": 2, "unit": OFF, "high": 7, "low": 6}], "are not [(15, 18, 6, 1)]"),
    (25, "changes", [(15, uint(OFF) + uint(6) + uint(1))], "code 6 of unit 18 never came out"),
    (26, "changes", [(2, uint(25) + uint(70))], "are not [(2, 25, 70), (15, 18, 2, 0)]"),
    (26, "moves", moved(26, 0), "account 44 of unit 18 changes by 0, and not by -1"),
    (28, "changes", [(7, uint(0) + uint(2))], "2 tries after 0"),
    (28, "code", 75, "code 75 to a wrong PIN"),
    (28, "moves", [(1, 16, 70)], "a refusal with moves"),
    (29, "changes", [(9, uint(98) + uint(1))], "are not [(9, 99, 1)]"),
    (30, "changes", [(11, b"\x01\x00" + bytes(7) + b"\5" + bytes(7) + b"\6")], "changes [(11, 1, False"),
    (31, "moves", [(1, 17, 349)], "account 1 of card 0 changes by -349, and not by -350"),
    (31, "changes", [(4, b"\x02")], "changes [(4, 2)] are not [(4, 6)]"),
    (32, "code", 14, "card number 10000001 is answered with 41"),
]


@pytest.mark.parametrize(("sequence", "name", "value", "problem"), FORGERIES)
def test_a_forged_entry_is_found(tmp_path: Path, sequence: int, name: str, value: Any, problem: str) -> None:
    entries = copy.deepcopy(journal())
    entries[sequence - 1][name] = value
    report = auditor.audit(write(tmp_path / "data", entries))
    assert any(problem in found for found in report.problems), report.problems


def test_a_lapse_that_is_missing_is_found(tmp_path: Path) -> None:
    entries = journal()
    del entries[16]
    report = auditor.audit(write(tmp_path / "data", entries))
    assert any("something of cards [0] was to lapse" in found for found in report.problems), report.problems
