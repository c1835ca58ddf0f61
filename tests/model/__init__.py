"""Reference model of the engine: small, obvious, slow, in plain integers.

It is written from docs/card.md, docs/transactions.md, docs/codes.md and docs/rules.md alone and imports
nothing of onecard, so that a mistake in the engine is not made here a second time. Everything happens the
obvious way: all that anybody has in one dict of balances, everything of a purse in lots, every transaction
worked out on a copy of the dict (a `Draft`) that replaces it if nothing refuses, growth applied to every
lot at every close.

Sequences are the model's own: 1, 2, 3 ... over transactions only. Who compares it with an engine maps
them from answer to answer. An alias is whatever numbers it was bound by, a PIN is its digits and value, and
a code's MAC is right or wrong: who compares maps these, too.
"""

from tests.model.books import *  # noqa: F403
from tests.model.programme import *  # noqa: F403
from tests.model.rows import *  # noqa: F403
