"""The independent witness: audits a closed data directory by docs/journal-format.md alone.

It knows py-lmdb and the pages docs/journal-format.md, docs/transactions.md and docs/card.md, and nothing of
the engine.
It walks every block and decodes every byte, and holds the journal to these invariants:

- blocks: key, magic, sequences without gaps, offset table, chain of hashes from the journal's id;
- registration: numbers are new, parents are known, rules are numbered without gaps;
- transactions: keys are unique and inside the window, terminals and stores are registered, the moves of an
  entry sum to zero in every unit, refusals have none, the entries of a card are linked, be it a further one;
- cards: lots rebuilt from moves and recomputed growth give the balances in every entry, and stay within their
  limits; what is spent is valid, free, and the first to expire; what is refunded or reversed returns in the
  documented parts; holds hold what they say and captures take it; codes are used once;
- days: what lapses, reserve, positions, and growth and liability of every issuing merchant equal what the
  entries before them say.

`python -m tests.auditor DIR... [--json]` audits data directories; DIR `-` reads them from standard input,
one a line, and answers each with one line of JSON. Exit status 1 if there is a problem.
"""

import argparse
import json
import sys
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path

import lmdb

from tests.auditor.books import Books
from tests.auditor.form import (
    CARD_FEES,
    HASH_BYTES,
    KINDS,
    OUT_AS_CODES,
    TRANSIT_ACCOUNTS,
    UNIT,
    UNIT_POOL,
    Damage,
    blocks,
    decode,
    open_block,
)

# What entries name and the books keep elsewhere: it has no total of its own.
NAMED_ALONE = TRANSIT_ACCOUNTS | {CARD_FEES}
UNIT_TOTALS = (UNIT, UNIT_POOL, OUT_AS_CODES)

__all__ = ["Report", "audit", "blocks", "main"]


@dataclass
class Report:
    """What an audit found; amounts in smallest units, `sums` are zero and `problems` empty if all is well."""

    entries: int = 0
    blocks: int = 0
    bytes: int = 0
    cards: int = 0
    transactions: int = 0
    head: str = ""
    kinds: dict[str, int] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)
    totals: dict[str, dict[str, int]] = field(default_factory=dict)
    units: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    sums: dict[str, dict[str, int]] = field(default_factory=dict)
    grown: dict[str, int] = field(default_factory=dict)
    open_dates: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def audit(directory: Path) -> Report:
    """Audit the journal of a closed data directory. What stops the walk is the last of the problems."""
    report, books = Report(), Books()
    kinds: dict[str, int] = defaultdict(int)
    codes: dict[str, int] = defaultdict(int)
    place, before = "journal", b""
    try:
        for identity, key, block in blocks(directory / "journal"):
            place = f"block {key}"
            base, entries = open_block(block, key, report.entries + 1, before or identity + bytes(16))
            before = block[-HASH_BYTES:]
            for data in entries:
                place = f"block {key}, entry {report.entries + 1}"
                entry = decode(data, report.entries + 1, base)
                books.post(entry)
                report.entries += 1
                kinds[str(entry.kind)] += 1
                codes[str(entry.code)] += entry.kind in KINDS
            report.blocks += 1
            report.bytes += len(block)
    except (Damage, lmdb.Error, UnicodeDecodeError, json.JSONDecodeError) as damage:
        books.problems.append(f"{place}: {damage}")
    except KeyError as missing:
        books.problems.append(f"{place}: the rules have no {missing}")
    else:
        report.sums = books.sums()
    report.cards, report.transactions, report.head = len(books.cards), len(books.transactions), before.hex()
    report.kinds, report.codes = dict(kinds), dict(codes)
    for number, programme in books.programmes.items():
        report.totals[str(number)] = {
            str(account): total
            for account, total in sorted(programme.totals.items())
            if account not in NAMED_ALONE
        }
        report.units[str(number)] = {
            str(unit): {str(account): totals[account] for account in UNIT_TOTALS}
            for unit, totals in sorted(programme.units.items())
        }
        report.grown[str(number)] = programme.grown
        report.open_dates[str(number)] = programme.open_date
    report.problems = books.problems
    return report


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Audit the journal of a closed data directory.")
    parser.add_argument(
        "directories", nargs="+", metavar="DIR", help="data directory, or - for standard input"
    )
    parser.add_argument("--json", action="store_true", help="one line of JSON a directory")
    options = parser.parse_args(arguments)
    if options.directories == ["-"]:
        for line in sys.stdin:
            print(json.dumps(asdict(audit(Path(line.rstrip("\n"))))), flush=True)
        return 0
    failed = False
    for directory in options.directories:
        report = audit(Path(directory))
        failed = failed or bool(report.problems)
        if options.json:
            print(json.dumps(asdict(report)))
        else:
            print(f"{directory}: {report.entries} entries in {report.blocks} blocks, {report.cards} cards")
            print("\n".join(report.problems) or "whole: the chain, every key, every balance, every sum")
    return int(failed)
