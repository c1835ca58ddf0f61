"""What the engine writes of the whole card, audited: stories, a clerk's days, and what is forged in them."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from onecard import verify
from tests import auditor
from tests.auditor import form
from tests.auditor.books import Books
from tests.desk import (
    GIFT,
    GIVING,
    OFF,
    PIN,
    POOL_PASS,
    STAFF_CARD,
    TABLES,
    WASH,
    WEB,
    Clerk,
    Desk,
    card_item,
    item,
    pin,
)

FEES = [
    {"id": 1, "name": "commission", "rate": 15 * 10**9, "min": 10},
    {"id": 9, "name": "for points", "of": "points", "rate": 10**11, "paid_by": "card-merchant"},
]
ANNA, BEN, CARL = "10000001", "10000002", "10000003"


def opened(path: Path, tables: dict[str, Any] | None = None) -> Desk:
    """A desk with three cards of one holder, filled, of the products that are plain, whole and short."""
    desk = Desk(path, tables)
    desk.must(8, amount=10**10)
    desk.must(1, card=STAFF_CARD, product=4)
    for product, card in enumerate((ANNA, BEN, CARL), 1):
        desk.must(1, card=card, product=product, terminal=product % 2 + 1)
        desk.must(2, card=card, amount=30_000)
        desk.must(15, item(10, low=7, amount=1), card=card)
    desk.must(17, pin(PIN, 11), card=BEN, flags=32)
    return desk


def sales(desk: Desk) -> None:
    """Bundles are granted, and paid with: coupons, codes, passes, units, points, several cards and cash."""
    desk.must(9, card=ANNA, product=1, amount=2, channel=WEB)
    desk.must(9, card=BEN, product=1, amount=1, flags=8)
    desk.must(9, card=BEN, product=2, amount=2)
    desk.must(19, product=OFF, amount=3, expires=desk.day + 1)
    coupons = [item(1, unit=OFF, amount=1), item(3, unit=WASH, amount=2), card_item(STAFF_CARD, 7)]
    first = desk.must(3, *coupons, card=ANNA, amount=9_000, flags=1)
    codes = [pin(PIN), desk.code(OFF, 1), desk.code(OFF, 3), item(3, unit=POOL_PASS, amount=1)]
    several = [card_item(CARL), card_item(ANNA), item(6, amount=50_000)]
    whole = desk.must(3, *codes, *several, card=BEN, amount=89_000, flags=1, terminal=2)
    desk.must(2, card=CARL, amount=500)
    part = desk.must(3, card=CARL, amount=900_000, flags=2)
    assert part["code"] == 10
    desk.must(4, original=int(first["sequence"]), amount=1_234, terminal=2)
    desk.must(4, original=int(whole["sequence"]), amount=33_333)
    again = desk.must(4, original=int(whole["sequence"]), amount=int(whole["amount"]) - 33_333)
    desk.must(5, original=int(again["sequence"]))
    desk.must(5, original=int(part["sequence"]))


def holds(desk: Desk) -> None:
    """What is held is captured in parts, let off, undone, and ends with its day."""
    desk.must(9, card=ANNA, product=1, amount=1)
    taken = [item(1, unit=OFF, amount=1), item(3, unit=WASH, amount=1), card_item(STAFF_CARD, 7)]
    first = int(desk.must(10, *taken, card=ANNA, amount=9_000, flags=1)["sequence"])
    second = int(desk.must(10, card=ANNA, amount=4_000)["sequence"])
    third = int(desk.must(10, card=ANNA, amount=500, expires=desk.day)["sequence"])
    fourth = int(desk.must(10, card=ANNA, amount=600)["sequence"])
    captured = desk.must(11, original=first, amount=3_333)
    desk.must(11, original=first, amount=1, flags=4)
    desk.must(12, original=second)
    desk.must(5, original=fourth)
    assert desk.ask(12, original=second)["code"] == 12
    desk.must(4, original=int(captured["sequence"]), amount=333)
    desk.must(5, original=int(desk.must(11, original=third, amount=200)["sequence"]))


def days(desk: Desk) -> None:
    """Lots and holds end with their days, and points grow in between."""
    sale = int(desk.must(3, card=CARL, amount=700)["sequence"])
    granted = int(desk.must(9, card=ANNA, product=1, amount=1)["sequence"])
    for _ in range(4):
        desk.close_day()
        desk.must(3, card=ANNA, amount=100, flags=1)
    desk.must(4, original=sale, amount=350)
    assert desk.ask(5, original=granted)["code"] in (0, 51)


def lives(desk: Desk) -> None:
    """Numbers, names, PINs and holders change; value goes from card to card; one is closed."""
    desk.must(17, pin(PIN, 11), card=ANNA)
    wrong = [desk.ask(3, pin(text), card=ANNA, amount=100)["code"] for text in ("1111", "2222", PIN, "3333")]
    assert wrong == [55, 55, 0, 55]
    desk.must(17, card=ANNA, flags=32)
    desk.must(17, pin(PIN), pin("5555", 11), card=ANNA)
    desk.must(16, desk.alias(1, "13800000000"), card=ANNA)
    desk.must(3, desk.alias(1, "13800000000"), amount=100)
    desk.must(16, desk.alias(1, "13800000000"), card_item(ANNA), pin("5555"), card=BEN)
    desk.must(16, desk.alias(1, "13800000000"), card=BEN, flags=16)
    desk.must(13, card_item("20000001", 9), card=BEN, status=3)
    assert desk.ask(2, card=BEN, amount=100)["code"] == 41
    desk.must(9, card="20000001", product=2, amount=1)
    for purse, amount in ((1, 2_000), (3, 40_000), (GIFT, 900)):
        desk.must(14, card_item("20000001"), card=CARL, product=purse, amount=amount)
    both = [card_item(CARL, amount=12_000), card_item(ANNA, amount=3)]
    bulk = desk.must(20, *both, amount=12_003, channel=WEB)
    desk.must(5, original=int(bulk["sequence"]))
    desk.must(7, card=CARL, status=2)
    desk.must(7, card=CARL, status=1)
    desk.must(18, card="20000001")
    desk.must(1, card="40000001", product=1, status=5)
    assert desk.ask(2, card="40000001", amount=100)["code"] == 78


def tell(desk: Desk) -> None:
    for story in (sales, holds, days, lives):
        story(desk)


def agrees(directory: Path, desk: Desk) -> auditor.Report:
    """The auditor finds the journal whole, and the same in it as the engine and its own auditor do."""
    books = desk.core.trial_balance(1)
    liabilities = desk.core.liabilities(1)
    desk.close()
    report = auditor.audit(directory)
    assert report.problems == []
    assert verify(directory).problems == ()
    assert report.entries == books["entries"]
    assert not any(report.sums["1"].values())
    totals = {int(account): total for account, total in report.totals["1"].items()}
    totals[form.POINTS] += totals.pop(form.GROWTH, 0)
    told = dict(books["totals"])
    assert {account: total for account, total in totals.items() if total} == {
        account: total for account, total in told.items() if total
    }
    units = {
        int(unit): [total.get(code, 0) for code in ("6", "44", "45")]
        for unit, total in report.units["1"].items()
    }
    assert units == {unit: list(amounts) for unit, amounts in dict(books["units"]).items()}
    assert liabilities["code"] == 0
    return report


@pytest.mark.parametrize("story", [sales, holds, days, lives, tell])
@pytest.mark.parametrize("grace_days", [0, 3])
def test_a_story_is_whole(tmp_path: Path, story: Callable[[Desk], None], grace_days: int) -> None:
    desk = opened(tmp_path, TABLES | {"grace_days": grace_days})
    story(desk)
    desk.close_day()
    report = agrees(tmp_path, desk)
    assert report.kinds["41"] >= 1


@pytest.mark.parametrize("seed", range(12))
def test_days_of_a_clerk_are_whole(tmp_path: Path, seed: int) -> None:
    desk = Desk(tmp_path, TABLES | {"grace_days": seed % 2 * 3, "fees": FEES if seed % 3 else []})
    clerk = Clerk(desk, seed)
    clerk.opening()
    for number in range(300):
        clerk.step()
        if number % 25 == 24:
            desk.close_day()
    report = agrees(tmp_path, desk)
    assert {"2", "3", "4", "5", "9", "10", "11", "43"} <= set(report.kinds)


@pytest.mark.parametrize("seed", range(4))
def test_days_of_a_clerk_who_gives_are_whole(tmp_path: Path, seed: int) -> None:
    desk = Desk(tmp_path, TABLES | GIVING | {"grace_days": seed % 2 * 3})
    clerk = Clerk(desk, seed)
    clerk.opening()
    for step in range(1, 501):
        clerk.step()
        if step % 70 == 0:
            desk.close_day()
    agrees(tmp_path, desk)


def test_other_rules_hold_from_the_next_transaction_on(tmp_path: Path) -> None:
    desk = opened(tmp_path)
    sale = desk.must(3, card=BEN, amount=5_000)
    products = [product | {"accrual": 0, "rebate": 0, "discount": 0} for product in TABLES["products"]]
    assert desk.publish(2, TABLES | {"products": products, "hold_days": 1}) == 0
    hold = desk.must(10, card=BEN, amount=5_000)
    assert hold["amount"] == 5_000
    desk.must(4, original=int(sale["sequence"]), amount=1_000)
    agrees(tmp_path, desk)


# Forged


Entries = list[tuple[int, bytes]]
"""Entries of a journal, each with its base date."""


def entries_of(directory: Path) -> Entries:
    entries: Entries = []
    before = b""
    for identity, key, block in form.blocks(directory / "journal"):
        base, found = form.open_block(block, key, len(entries) + 1, before or identity + bytes(16))
        before = block[-form.HASH_BYTES :]
        entries += [(base, entry) for entry in found]
    return entries


def problems(entries: Entries) -> list[str]:
    """What the auditor finds in these entries, hashes made good."""
    books = Books()
    try:
        for sequence, (base, data) in enumerate(entries, 1):
            books.post(form.decode(data, sequence, base))
        books.sums()
    except (form.Damage, UnicodeDecodeError, ValueError) as damage:
        books.problems.append(str(damage))
    return books.problems


# What only the sender knows: no entry contradicts another one.
UNTOLD = {"time", "channel", "key"}
REFUSED = {"amount", "asked", "flags", "items", "code", "reason", "missing", "product", "expires", "status"}


def is_untold(before: form.Entry, after: form.Entry) -> bool:
    """True if the two differ in what nobody else tells: stamps, keys, hashes, what was refused."""
    changed = {name for name in form.Entry.__slots__ if getattr(before, name) != getattr(after, name)}
    if not before.approved:
        changed -= REFUSED
    if before.kind == form.SET_PIN:
        changed -= {"changes"}
    if before.kind == form.ISSUE:
        changed -= {"number"}
    if before.kind in (form.PURCHASE, form.AUTHORISE):
        # The flag accept partial, how much cash was offered, and the MAC of a code.
        changed -= {"asked"} if (before.asked ^ after.asked) == 2 else set()
        same = [(one.kind, one.unit, one.low) for one in before.items]
        changed -= {"items"} if same == [(one.kind, one.unit, one.low) for one in after.items] else set()
    return changed <= UNTOLD


def test_a_bit_that_is_changed_is_found(tmp_path: Path) -> None:
    """Of entries with details any bit, but for what only the sender knows."""
    desk = opened(tmp_path, TABLES | {"fees": FEES})
    tell(desk)
    desk.close_day()
    desk.close()
    entries = entries_of(tmp_path)
    assert problems(entries) == []
    chance = random.Random(4)
    detailed = [
        at for at, (_, data) in enumerate(entries) if data[0] in form.KINDS and data[4] == form.DETAILED
    ]
    assert len(detailed) > 50
    found = 0
    for at in chance.choices(detailed, k=300):
        base, data = entries[at]
        forged = bytearray(data)
        forged[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        named = problems([*entries[:at], (base, bytes(forged)), *entries[at + 1 :]])
        found += bool(named)
        if not named:
            before, after = (form.decode(bytes(one), at + 1, base) for one in (data, forged))
            assert is_untold(before, after), (before, after)
    assert found > 200
