"""What pydantic finds wrong with the shape and the types of a rule file, in the words of whoever wrote it.

Each sentence names the key and the mend; every key that must be there has an example here.
"""

import difflib
from typing import TYPE_CHECKING, get_args

from annotated_types import Ge, Le
from pydantic import BaseModel, ValidationError

from onecard.rules import source
from onecard.rules.located import Float, KeyPath

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

TABLES: dict[str, type[BaseModel]] = {
    "units": source.Units,
    "money": source.Unit,
    "points": source.Unit,
    "products": source.Product,
    "points_valid": source.Valid,
    "valid": source.Valid,
    "tier_valid": source.Valid,
    "growth_value": source.GrowthValue,
    "named": source.Limits,
    "top_up_bonus": source.Band,
    "card_units": source.CardUnit,
    "bundles": source.Bundle,
    "grants": source.Grant,
    "waterfall": source.Step,
    "channels": source.Channel,
    "discounts": source.Discount,
    "accruals": source.Accrual,
    "when": source.When,
    "categories": source.Category,
    "regions": source.Region,
    "tiers": source.Tier,
    "gifts": source.Gifts,
    "triggers": source.Trigger,
    "python_rules": source.PythonRule,
    "fees": source.Fee,
    "compounding": source.Compounding,
    "holds": source.Holds,
    "refunds": source.Refunds,
    "terminals": source.Terminals,
}
"""The model of every table, by the table's own name."""

EXAMPLES = {
    "units": '[units] with money = { name = "CNY", scale = 2 }',
    "money": 'money = { name = "CNY", scale = 2 }',
    "products": "[[products]], at least one",
    "waterfall": '[[waterfall]], at least one, with pay = "principal"',
    "id": "id = 1, a number that is never used again",
    "card_units.id": "id = 16, a number from 16 on that is never used again",
    "channels.id": "id = 1, the channel's number in requests",
    "categories.id": "id = 1, the category's number in requests",
    "tiers.id": "id = 1, a number from 1 to 31, the higher the better",
    "python_rules.id": "id = 1, the number of the function's decorator",
    "version": 'version = "1", that of the function\'s decorator',
    "tiers.from": 'from = "1000", the growth value that reaches it',
    "regions.stores": "the numbers of its stores, or leave it out: none",
    "regions.merchants": "the numbers of merchants whose stores are in it, or leave it out: none",
    "benefits": "words for people, or leave it out: none",
    "on": 'on = "first-purchase", "purchase", "no-purchase", "cadence" or "birthday"',
    "bundle": 'bundle = "...", the name of a bundle without a price',
    "tier": 'tier = "...", the name of one of [[tiers]]',
    "from": 'from = "500.00", the least amount of the band',
    "pay": 'pay = "principal", "bonus" or "points"',
    "daily_rate": 'daily_rate = "0.01%"',
    "funding": 'funding = "growth", the account that pays for the growth',
    "scale": "scale = 2, the number of decimal places",
    "name": 'name = "..."',
    "kind": 'kind = "visits", "time", "coupon", "value" or "growth"',
    "stores": "the numbers of the stores that take it, or leave it out: all do",
    "grants": '[[bundles.grants]] with unit = "..." and amount = "1"',
    "unit": 'unit = "bonus", "points" or the name of one of [[card_units]]',
    "amount": 'amount = "1", how much of the unit',
    "days": "days = 365, how long it is valid",
    "valid": "valid = { days = 365 }, how long growth value counts",
    "tier_valid": "tier_valid = { days = 365 }, how long a tier holds before it is reviewed",
    "triggers.stores": "the numbers of stores, or leave it out: all",
    "triggers.products": "the names of products, or leave it out: all",
    "growth_value.unit": 'unit = "..." with the name of one of [[card_units]] of kind = "growth"',
    "rate": 'rate = "1.5%", the share',
    "card_merchants": "the numbers of merchants that issued the card, or leave it out: all others",
    "when.stores": "the numbers of stores, or leave it out: all",
    "when.products": "the names of products, or leave it out: all",
    "merchants": "the numbers of merchants, or leave it out: all",
    "when.channels": "the names of channels, or leave it out: all",
    "when.regions": "the names of regions, or leave it out: all",
    "when.tiers": "the names of tiers, or leave it out: all, and cards without one",
    "when.categories": "the names of categories, or leave it out: all that is sold",
    "weekdays": 'days like "mon" or "sun", or leave it out: all',
    "month_days": "days of the month from 1 to 31, or leave it out: all",
    "times": 'times of day like "10:00-14:00", or leave it out: all',
}
"""What a key that is missing or empty looks like: by its name, or by table and name where those differ."""

_SENTENCES = {
    "missing": "`{name}` is missing: add {example}",
    "too_short": "`{name}` is empty: add {example}",
    "too_long": "there are {actual_length} of `{name}`: at most {max_length} are possible",
    "value_error": "`{name}`: {error}",
    "literal_error": "`{name}`: {value!r} is unknown: write {expected}",
    "string_type": "`{name}` must be text in quotes, not {kind}",
    "string_too_short": "`{name}` is empty: give it a name",
    "string_too_long": "`{name}` is too long: use at most {max_length} characters",
    "int_type": "`{name}` must be a whole number without quotes, not {kind}",
    "bool_type": "`{name}` must be true or false, without quotes, not {kind}",
    "list_type": "`{name}` is a list of {things}: write {listed}, not {kind}",
    "model_type": "`{name}` must be a table, not {kind}",
}


def explained(error: ValidationError) -> list[tuple[KeyPath, str]]:
    """What is wrong, and where."""
    return [(one["loc"], _sentence(one)) for one in error.errors(include_url=False)]


def _sentence(error: "ErrorDetails") -> str:
    path, value = error["loc"], error["input"]
    names = [name for name in path if isinstance(name, str)]  # without indices: an entry is named as its list
    name = names[-1]
    match error["type"]:
        case "extra_forbidden":
            return _unknown(path)
        case "greater_than_equal" | "less_than_equal":
            return f"`{name}` is {value}: use {_range(path)}"
        case "list_type" if name in TABLES and isinstance(value, dict):
            header = ".".join(names)
            return f"`{name}` is a list of tables: write [[{header}]], not [{header}]"
        case known if known in _SENTENCES:
            words = {
                "name": name,
                "value": value,
                "kind": _kind(value),
                "example": EXAMPLES.get(".".join(names[-2:])) or EXAMPLES.get(name),
                "things": "tables" if name in TABLES else "numbers",
                "listed": f"[[{'.'.join(names)}]]" if name in TABLES else f"{name} = [1, 2]",
            }
            return _SENTENCES[known].format(**(words | error.get("ctx", {})))
        case _:
            return f"`{name}`: {error['msg']}"


def _range(path: KeyPath) -> str:
    """The bounds of a key, or of the entries of a list of numbers."""
    entry = isinstance(path[-1], int)
    at = path[:-1] if entry else path
    field = _model_at(at[:-1]).model_fields[str(at[-1])]
    limits = get_args(get_args(field.annotation)[0]) if entry else field.metadata
    least = next(limit.ge for limit in limits if isinstance(limit, Ge))
    most = next(limit.le for limit in limits if isinstance(limit, Le))
    return f"{least} to {most}"


def _kind(value: object) -> str:
    match value:
        case Float():
            return "a number with a point"
        case bool():
            return "true or false"
        case int():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case dict():
            return "a table"
        case _:
            return "a date or time"


def _unknown(path: KeyPath) -> str:
    fields = _model_at(path[:-1]).model_fields
    # What must be there comes first.
    known = [
        fields[name].alias or name for name in sorted(fields, key=lambda name: not fields[name].is_required())
    ]
    near = difflib.get_close_matches(str(path[-1]), known, 1)
    mend = f"did you mean `{near[0]}`?" if near else f"remove it, or use one of {', '.join(known)}"
    return f"unknown key `{path[-1]}`: {mend}"


def _model_at(path: KeyPath) -> type[BaseModel]:
    """The model of the table at a path."""
    names = [name for name in path if isinstance(name, str)]
    return TABLES[names[-1]] if names else source.RuleFile
