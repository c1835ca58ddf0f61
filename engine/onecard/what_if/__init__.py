"""What-if: a period of the journal executed again under other rules, beside what happened (docs/what-if.md).

`load_period`, or `Engine.period` of an engine that is open, reads a period once; `Period.run` tries rules on
it, as often as one likes. The books are not touched: nothing is written.
"""

import os
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np

from onecard import _core, rows
from onecard.rules import Rules
from onecard.what_if.outcome import (
    AccountTotal,
    ChangedTransaction,
    CodeChange,
    Day,
    Figure,
    MerchantPoints,
    RuleCost,
    StoreNet,
    TierCards,
    WhatIf,
)

__all__ = [
    "AccountTotal",
    "ChangedTransaction",
    "CodeChange",
    "Day",
    "Figure",
    "MerchantPoints",
    "Period",
    "RuleCost",
    "StoreNet",
    "TierCards",
    "WhatIf",
    "load_period",
]

CHANGED_MAX = 100
Progress = Callable[[int, int], None]


class Period:
    """A loaded period: its state as it began, what was asked in it, and what came of it. Never changed."""

    def __init__(self, core: _core.Period) -> None:
        self._core = core
        self.programme = core.programme
        self.first, self.last = (rows.day(date) for date in core.dates)
        self.transactions = core.transactions

    def run(
        self,
        rules: Rules | str | os.PathLike[str] | None,
        *,
        changed_max: int = CHANGED_MAX,
        answers: bool = False,
    ) -> WhatIf:
        """What the period would have come to under rules, or a rule file, beside what it came to.

        None executes it under the rules that were in force, which gives what happened: `differing` is 0. At
        most `changed_max` transactions whose code is another are told one by one; `answers` gives those of
        all. RulesError names file, line and mend; ValueError says what of the tables the engine does not
        take, and which products the rules have not though there are cards of them.
        """
        if rules is not None and not isinstance(rules, Rules):
            rules = Rules.load(rules)
        tables = None if rules is None else rules.tables_json
        start = perf_counter()
        found = self._core.run(tables, changed_max, answers)
        seconds = perf_counter() - start
        return _outcome(self, found, seconds, answers)


def load_period(
    path: str | os.PathLike[str],
    *,
    since: rows.Day | None = None,
    until: rows.Day | None = None,
    programme: int = 1,
    progress: Progress | None = None,
) -> Period:
    """The business dates `since` to `until` of a closed data directory; without them, all there are.

    `progress(done, total)` is called now and then with entries; what it raises ends the loading.
    """
    first, last = (None if date is None else rows.days(date) for date in (since, until))
    return Period(_core.load_period(os.fspath(path), programme, first, last, progress))


def _outcome(period: Period, found: dict[str, Any], seconds: float, answers: bool) -> WhatIf:
    return WhatIf(
        programme=period.programme,
        first=period.first,
        last=period.last,
        transactions=found["transactions"],
        seconds=seconds,
        figures=tuple(Figure(*row) for row in found["figures"]),
        costs=tuple(RuleCost(*row) for row in found["costs"]),
        stores=tuple(StoreNet(*row) for row in found["stores"]),
        merchants=tuple(MerchantPoints(*row) for row in found["merchants"]),
        tiers=tuple(TierCards(*row) for row in found["tiers"]),
        days=tuple(Day(rows.day(date), *row) for date, *row in found["days"]),
        accounts=tuple(AccountTotal(*row) for row in found["accounts"]),
        changes=tuple(CodeChange(*row) for row in found["changes"]),
        changed=tuple(
            ChangedTransaction(sequence, rows.day(date), *row) for sequence, date, *row in found["changed"]
        ),
        differing=found["differing"],
        differing_first=tuple(found["differing_first"]),
        answers=rows.Answers(np.frombuffer(memoryview(found["answers"]), rows.ANSWER)) if answers else None,
    )
