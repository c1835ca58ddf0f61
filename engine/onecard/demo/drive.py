"""The whole of the demo without a word said: load, serve, replay, check, stop, verify."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import grpc

from onecard.demo import books, data, year
from onecard.demo.data import DemoError, Year
from onecard.demo.server import Server
from onecard.engine import verify
from onecard.reports import Verification
from onecard.rules import Rules

PRODUCTS = {data.STANDARD, data.FAMILY, data.SENIOR}

UNBOOKED = {"day_sum", "day_count", "pin_above", "named"}
"""What of a product the demo's own books do not price."""

BOOKED_PAYERS = {"coupons", "points", "bonus", "principal"}
"""What may pay."""


@dataclass(frozen=True)
class Outcome:
    """A year that was replayed, checked against the demo's own books, and verified on disk."""

    baskets: Year
    rules: Rules
    replay: year.Replay
    books: books.Books
    verification: Verification
    # Seconds of every phase, in their order.
    seconds: dict[str, float]

    @property
    def problems(self) -> list[str]:
        """What is not as it must be; empty if nothing was lost."""
        found = [*self.books.differences, *self.verification.problems]
        if self.verification.entries != self.replay.trial.entries:
            found.append(
                f"the journal holds {self.verification.entries} entries, the engine counted "
                f"{self.replay.trial.entries}"
            )
        return found


def rules_of(path: Path | None) -> Rules:
    """The rule file at `path`, or the demo's own.

    RulesError if it cannot be used, DemoError if it does not fit the demo.
    """
    if path is None:
        rules = Rules.parse(files("onecard.demo").joinpath("rules.toml").read_text("utf-8"), "rules.toml")
    else:
        rules = Rules.load(path)
    if missing := PRODUCTS - {product["id"] for product in rules.tables["products"]}:
        raise DemoError(
            f"the rules have no product {min(missing)}: the demo issues cards of products 1, 2 and 3"
        )
    if rules.tables["money"]["scale"] != 2:
        raise DemoError("the demo counts cents: write scale = 2 for money")
    if unbooked := next(_unbooked(rules.tables), None):
        raise DemoError(f"{unbooked}: the demo's books do not price that")
    return rules


def _unbooked(tables: dict[str, Any]) -> Iterator[str]:
    """What the rules have that the demo's own books do not know."""
    for product in tables["products"]:
        for more in sorted(UNBOOKED & set(product)):
            yield f"product {product['id']} has {more}"
    for step in tables["waterfall"]:
        if step["pay"] not in BOOKED_PAYERS:
            yield f"{step['pay']} pays by the rules"
    for rule in tables.get("discounts", []) + tables.get("accruals", []):
        if "birthday" in rule.get("when", {}):
            yield f"rule {rule['id']}, {rule['name']}, asks for birthdays, which the data does not have"
    if tables.get("python_rules"):
        yield "there are rules in Python"
    yield from _unbooked_gifts(tables)


def _unbooked_gifts(tables: dict[str, Any]) -> Iterator[str]:
    """The same of what a card may be given besides money and points."""
    for unit in tables.get("units", []):
        of_issuer = unit["kind"] == "coupon" and unit.get("funded", "issuer") == "issuer"
        if not (unit["kind"] == "growth" or of_issuer) or unit.get("stores"):
            yield f"unit {unit['id']} is neither growth value nor a coupon of the issuer for all stores"
    for bundle in tables.get("bundles", []):
        if any(grant.get("from", 0) for grant in bundle.get("grants", [])) or "worth" in bundle:
            yield f"bundle {bundle['id']} grants goods, or what is valid from a later day on"
    if any(band.get("bundle", 0) for band in tables["top_up_bonus"]):
        yield "a top-up brings a bundle"
    if tables.get("gifts", {}).get("enrolment", 0):
        yield "the rules have a gift for enrolment"


def run_year(
    data_dir: Path | None = None,
    rules_file: Path | None = None,
    limit_days: int | None = None,
    on_start: Callable[[int], None] = lambda days: None,
    on_day: Callable[[int], None] = lambda date: None,
) -> Outcome:
    """Replay the year, or its first `limit_days`, on a server of its own; workload W7 is `replay.seconds`.

    The server's data go to `data_dir`, which must be empty or not exist, or to a temporary directory.
    `on_start` is called with the number of business days, `on_day` with each date closed. DemoError,
    RulesError or grpc.RpcError if it cannot be done; what was done wrong is in the outcome's `problems`.
    """
    if data_dir is None:
        with TemporaryDirectory(prefix="onecard-demo-") as made:
            return run_year(Path(made), rules_file, limit_days, on_start, on_day)
    if data_dir.exists() and any(data_dir.iterdir()):
        raise DemoError(f"{data_dir} is not empty: the demo starts from nothing, give it another directory")
    rules = rules_of(rules_file)
    clock = _Clock()
    baskets = data.load()
    if limit_days is not None:
        baskets = baskets.first_days(limit_days)
    on_start(len(list(baskets.days())))
    clock.phase("load")
    with Server(data_dir) as server:
        clock.phase("start the server")
        try:
            replay = year.replay(server.target, baskets, rules, on_day)
        except grpc.RpcError as error:
            raise DemoError(f"the server failed: {error}\n{server.said()}") from error
        clock.phase("replay")
        server.stop()
        clock.phase("stop the server")
    own = books.audit(replay, rules)
    clock.phase("price again")
    verification = verify(data_dir)
    clock.phase("verify the journal")
    return Outcome(baskets, rules, replay, own, verification, clock.seconds)


class _Clock:
    """Seconds from each phase's end to the next one's."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = perf_counter()

    def phase(self, ended: str) -> None:
        now = perf_counter()
        self.seconds[ended] = now - self._since
        self._since = now
