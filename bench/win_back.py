"""Rules in Python for the workload `python-rules`: the example of docs/python-rules.md, and two more."""

import numpy as np

from onecard.python_rules import Advice, Sales, rule

AWAY_DAYS = 60


@rule(id=1, name="win back", version="1", timeout_ms=200)
def win_back(sales: Sales) -> Advice:
    """Who was away for sixty days has 5% more off, and a hundredth more for each month beyond, up to 15%.

    Every tenth card is left alone, so that what it brings can be seen.
    """
    away = sales.open_date - sales.last_date
    tempted = (sales.card >= 0) & (away >= AWAY_DAYS) & (sales.number % 10 != 0)
    share = np.minimum(0.05 + (away - AWAY_DAYS) // 30 * 0.01, 0.15)
    return Advice(discount=np.where(tempted, share, 0.0))


@rule(id=2, name="one in twenty", version="1", timeout_ms=1_000)
def one_in_twenty(sales: Sales) -> Advice:
    """A hundredth off for every twentieth card."""
    return Advice(discount=np.where(sales.number % 20 == 0, 0.01, 0.0))


@rule(id=3, name="everybody", version="1", timeout_ms=1_000)
def everybody(sales: Sales) -> Advice:
    """A hundredth off for all."""
    return Advice(discount=np.full(len(sales), 0.01))
