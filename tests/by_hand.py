"""A journal encoded by hand, after docs/journal-format.md: entries from dicts, blocks, the database."""

import hashlib
import struct
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import lmdb

from tests.auditor import form

DAY = 20_000
BASE = DAY


def uint(value: int) -> bytes:
    if value >= 1 << 56:
        return b"\0" + value.to_bytes(16, "little")
    length = max(1, -(-value.bit_length() // 7))
    return (value << length | 1 << (length - 1)).to_bytes(length, "little")


def sint(value: int) -> bytes:
    return uint(2 * value if value >= 0 else -2 * value - 1)


def text(value: str) -> bytes:
    return uint(len(value.encode())) + value.encode()


def number(card: str) -> bytes:
    return bytes([len(card)]) + int(card).to_bytes(8, "little")


ALL_ACCOUNTS = [1, 2, 3, 4, 5, 6, 16, 17, 18, 32, 33, 40, 41, 42, 43, 35, 34, 44, 45, 46, 47, 48, 19, 20]


def moves(posted: list[tuple[int, int, int]]) -> bytes:
    """Moves as (from, to, amount)."""
    place = ALL_ACCOUNTS.index
    return b"".join(
        bytes([place(source) << 4 | place(target)]) + uint(amount) for source, target, amount in posted
    )


def some(value: int) -> bytes:
    return uint(value) if value else b""


def item(fields: dict[str, int]) -> bytes:
    """An item from its fields; of amount, high and low those that are zero are left out."""
    digits, unit, amount, high, low = (
        fields.get(name, 0) for name in ("digits", "unit", "amount", "high", "low")
    )
    bits = 16 * (amount != 0) + 32 * (high != 0) + 64 * (low != 0)
    hashed = high.to_bytes(8, "big") + low.to_bytes(8, "big") if high else some(low)
    return struct.pack("<BBH", fields["kind"] | bits, digits, unit) + some(amount) + hashed


def post(
    source: int, target: int, amount: int, *, card: int = 0, unit: int = 0, dates: Any = (0, 0)
) -> bytes:
    """A move with details."""
    begins, expires = dates
    form, has_card = 2 if expires else 1 if unit else 0, card > 0 or begins > 0
    first = ALL_ACCOUNTS.index(source) | form << 5 | has_card << 7
    head = struct.pack("<BBHI", first, ALL_ACCOUNTS.index(target), unit, expires)[: 2 << form]
    return head + (uint(card) + uint(begins) if has_card else b"") + uint(amount)


def details(spec: dict[str, Any], original: bytes) -> bytes:
    """What follows the card of a transaction with details."""
    product, expires = spec.get("product", 0), spec.get("expires", 0)
    amounts = [spec.get(name, 0) for name in ("amount", "cash", "unpaid", "discount")]
    lists = [spec.get(name, []) for name in ("items", "further", "moves", "changes")]
    items, further, posted, changes = lists
    issued, counts = "card" in spec and "number" in spec, [len(one) for one in lists]
    fields = sum(1 << bit for bit, amount in enumerate(amounts) if amount)
    fields |= (original != b"") << 4 | issued << 5 | (product | expires != 0) << 6
    many = max(counts) > 255
    parts = [bytes([spec.get("asked", 0), spec.get("status", 0), spec.get("reason", 0), fields | many << 7])]
    parts += [struct.pack("<4H" if many else "<4B", *counts)]
    parts += [uint(product) + uint(expires)] if product or expires else []
    parts += [*map(some, amounts), original]
    parts += [number(spec["number"])] if issued else []
    parts += [uint(balance) for balance in spec["balances"]] if "card" in spec else []
    parts += [item(one) for one in items]
    parts += [uint(index) + uint(before) for index, before in further]
    parts += [post(*one[:3], **(one[3] if len(one) > 3 else {})) for one in posted]
    parts += [uint(balance) for _, _, balance in spec.get("purses", [])]
    parts += [bytes([change[0]]) + change[1] for change in changes]
    return b"".join([*parts, *map(uint, spec.get("lines", []))])


def legs(posted: list[tuple[int, ...]]) -> bytes:
    """Legs as (account, amount) or (account, store, amount)."""
    parts = [uint(len(posted))]
    for leg in posted:
        parts += (
            [bytes([leg[0]]), sint(leg[1])]
            if len(leg) == 2
            else [bytes([leg[0] | 128]), uint(leg[1]), sint(leg[2])]
        )
    return b"".join(parts)


def transaction(spec: dict[str, Any]) -> bytes:
    """A transaction's entry from its fields; those left out are what most entries have."""
    card, original = spec.get("card"), spec.get("original_key")
    flags = 1 * ("id" in spec) + 2 * (card is not None) + 4 * ("missing" in spec) + 8 * ("posted" in spec)
    flags += 16 * (spec.get("asked", 0) & 1) + 32 * (original is not None)
    flags += 128 * (spec["date"] != BASE)
    changes, posted = spec.get("changes", []), spec.get("moves", [])
    counts = 15 if spec.get("details") else len(posted) + 16 * len(changes)
    parts = [bytes([spec["kind"], spec.get("code", 0), flags, 2, counts])]
    parts += [(43_200 + (1 << 23)).to_bytes(3, "little"), uint(spec["terminal"]), uint(spec["store"])]
    parts += [sint(spec["date"] - BASE)] if spec["date"] != BASE else []
    parts += [spec["id"] if "id" in spec else uint(spec["trace"])]
    parts += [sint(spec["posted"] - BASE)] if "posted" in spec else []
    parts += [uint(1)]
    parts += [uint(card[0]), uint(card[1])] if card is not None else []
    parts += [number(spec["missing"])] if "missing" in spec else []
    named = b"" if original is None else sint(original[0] - BASE) + original[1]
    named = uint(spec["original"]) if "original" in spec else named
    if spec.get("details"):
        return b"".join([*parts, details(spec, named)])
    if spec["kind"] == 1:
        parts += [uint(1), uint(0)] + ([number(spec["number"])] if card is not None else [])
    if spec["kind"] in (2, 3, 4, 8):
        parts += [sint(spec["amount"])]
    if spec["kind"] in (4, 5):
        parts += [named]
    if spec["kind"] == 7:
        parts += [bytes([spec["status"]])]
    parts += [moves(posted)]
    parts += [bytes([change[0]]) + change[1] for change in changes]
    parts += [uint(balance) for balance in spec["balances"]] if card is not None else []
    return b"".join(parts)


def close(spec: dict[str, Any]) -> bytes:
    forms: dict[str, Callable[[int], bytes]] = {"u": uint, "i": sint, "b": lambda value: bytes([value])}
    fields = b"".join(forms[form](spec[name]) for name, form in form.fields_of(spec["kind"]))
    owed = spec.get("liabilities")
    liabilities = uint(len(owed)) + b"".join(map(uint, chain(*owed))) if owed is not None else b""
    return bytes([spec["kind"], 0]) + uint(1) + fields + legs(spec["legs"]) + liabilities


def encode(spec: dict[str, Any]) -> bytes:
    if "raw" in spec:
        raw: bytes = spec["raw"]
        return raw
    return close(spec) if spec["kind"] >= 40 else transaction(spec)


def raw(kind: int, *fields: bytes) -> dict[str, Any]:
    return {"raw": bytes([kind, 0]) + uint(1) + b"".join(fields)}


def write(
    directory: Path, entries: list[dict[str, Any]], harm: Callable[[bytearray], None] | None = None
) -> Path:
    """A data directory with these entries, a few a block; `harm` may change the second block's bytes."""
    identity, before = bytes(range(16)), bytes(range(16)) + bytes(16)
    path = directory / "journal"
    path.mkdir(parents=True)
    with (
        lmdb.open(str(path), map_size=1 << 24, max_dbs=4) as environment,
        environment.begin(write=True) as writing,
    ):
        meta, blocks = environment.open_db(b"meta", writing), environment.open_db(b"blocks", writing)
        writing.put(b"format", b"onecard journal 3", db=meta)
        writing.put(b"id", identity, db=meta)
        for first in range(0, len(entries), 5):
            bodies = [encode(spec) for spec in entries[first : first + 5]]
            offsets = [64 + sum(len(body) for body in bodies[:place]) for place in range(len(bodies))]
            body = b"".join(bodies)
            head = struct.pack("<4sIQQII32s", b"OCJ2", len(bodies), first + 1, 0, BASE, len(body), before)
            block = bytearray(head + body + struct.pack(f"<{len(bodies)}I", *offsets))
            block += hashlib.sha256(block).digest()
            before = bytes(block[-32:])
            if harm is not None and first == 5:
                harm(block)
            writing.put((first + 1).to_bytes(8, "big"), bytes(block), db=blocks)
    return directory
