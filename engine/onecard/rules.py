"""Rule files: TOML that the business writes, checked here, compiled to the tables the engine evaluates.

docs/rules.md is the reference. Three steps, each on the one before: `_Located` parses the text and knows
the line of every key; pydantic models check shape and types, one class a table; `_Compiler` scales
decimals to integers and checks what spans several keys. All problems of a step are reported together,
each with file, line and mend. Decimals are exact from the first character on: no float is ever made.
"""

import dataclasses
import difflib
import json
import os
import re
import tomllib
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias

from annotated_types import Ge, Le
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

ONE = 10**12
"""What a rate of 100% is."""

NAME_MAX = 64
UNIT_NAME_MAX = 16
"""Bytes of UTF-8, both."""

POINTS_SCALE = 4
AMOUNT_MAX = 10**14
PURSE_MAX = 10**16
ACCRUAL_MAX = 10**18
PRICE_MAX = ONE
BAND_RATE_MAX = 10**13
GROWTH_MAX = ONE // 10

_PLACES_MAX = 30  # more digits than any unit or rate can hold, few enough to stay cheap

Path_: TypeAlias = tuple[str | int, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a rule file, and what to do about it."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"


class RulesError(ValueError):
    """A rule file that cannot be used. `problems` are in the order of their lines."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = sorted(problems, key=lambda problem: problem.line)
        super().__init__("\n".join(map(str, self.problems)))


# The file, as the business writes it


def _decimal(value: object) -> Decimal:
    if not isinstance(value, str):
        raise ValueError("write it as a string in quotes, so that it stays exact")
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", value) or len(value) > _PLACES_MAX:
        raise ValueError(f'{value!r} is not a decimal number: digits, and a point if need be, like "12.50"')
    return Decimal(value)


def _percent(value: object) -> Decimal:
    if not isinstance(value, str) or not value.endswith("%"):
        raise ValueError('write a percentage as a string in quotes, like "5%"')
    return _decimal(value[:-1].rstrip())


Number: TypeAlias = Annotated[Decimal, BeforeValidator(_decimal)]
Percent: TypeAlias = Annotated[Decimal, BeforeValidator(_percent)]
Name: TypeAlias = Annotated[str, Field(min_length=1, max_length=NAME_MAX)]
UnitName: TypeAlias = Annotated[str, Field(min_length=1, max_length=UNIT_NAME_MAX)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Unit(_Table):
    """What a purse counts, in steps of 10^-scale."""

    name: UnitName
    scale: Annotated[int, Field(ge=0, le=4)]


class Units(_Table):
    """The units of a programme."""

    money: Unit
    points: Unit = Unit(name="POINTS", scale=POINTS_SCALE)


class Product(_Table):
    """A card product."""

    id: Annotated[int, Field(ge=1, le=65535)]
    name: Name
    discount: Percent = Decimal(0)
    points_per_money: Number = Decimal(0)
    purchase_max: Number | None = None
    top_up_max: Number | None = None
    balance_max: Number | None = None


class Band(_Table):
    """A band of top-up amounts, and the bonus that it gives."""

    from_: Annotated[Number, Field(alias="from")]
    bonus: Number = Decimal(0)
    rate: Percent = Decimal(0)


class Step(_Table):
    """One step of the waterfall."""

    pay: Literal["points", "bonus", "principal"]
    share: Percent = Decimal(100)
    price: Number | None = None
    min_points: Number | None = None


class Compounding(_Table):
    """Daily growth of points, and the account that pays for it."""

    daily_rate: Percent
    funding: Literal["growth"]


class Terminals(_Table):
    """What is expected of terminals."""

    time_tolerance_hours: Annotated[int, Field(ge=0, le=168)] = 24


class RuleFile(_Table):
    """The whole file."""

    units: Units
    products: Annotated[list[Product], Field(min_length=1, max_length=256)]
    top_up_bonus: Annotated[list[Band], Field(max_length=64)] = []
    waterfall: Annotated[list[Step], Field(min_length=1)]
    compounding: Compounding | None = None
    terminals: Terminals = Terminals()


@dataclasses.dataclass(frozen=True, slots=True)
class Rules:
    """A rule file that is valid: as it was written, as it was read, and what it compiles to."""

    text: str
    source: RuleFile
    tables: dict[str, Any]
    """Flat tables of integers (docs/rules.md)."""

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a rule file; RulesError names file, line and mend of everything that is wrong."""
        file = os.fspath(path)
        data = Path(file).read_bytes()
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise RulesError([Problem(file, line, "this is not UTF-8: save the file as UTF-8")]) from None
        return cls.parse(text, file)

    @classmethod
    def parse(cls, text: str, file: str = "rules") -> Self:
        """Read rules from text; `file` is the name that problems carry."""
        located = _Located(text, file)
        try:
            source = RuleFile.model_validate(located.data)
        except ValidationError as error:
            raise located.error(_explained(error)) from None
        compiler = _Compiler(source)
        tables = compiler.tables()
        if compiler.problems:
            raise located.error(compiler.problems)
        return cls(text, source, tables)

    @property
    def tables_json(self) -> str:
        """The tables as JSON, in one canonical form: equal rules give equal text."""
        return json.dumps(self.tables, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    def explain(self) -> list[str]:
        """What the rules do, in sentences."""
        return list(_sentences(self.source))


class _Located:
    """Parsed TOML that knows on which line each key stands."""

    def __init__(self, text: str, file: str) -> None:
        self._file = file
        try:
            self.data = tomllib.loads(text, parse_float=_Float)
        except (ValueError, RecursionError) as error:
            raise RulesError([_syntax(error, text, file)]) from None
        self._lines: dict[Path_, int] = {}
        self._locate(text.replace("\r\n", "\n").split("\n"))

    def error(self, problems: list[tuple[Path_, str]]) -> RulesError:
        """The problems with their lines: that of the key, or of the nearest table around it."""
        return RulesError([Problem(self._file, self._line(path), message) for path, message in problems])

    def _line(self, path: Path_) -> int:
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

    def _locate(self, lines: list[str]) -> None:
        """Statement by statement: the fewest lines that are TOML by themselves are one statement."""
        table: Path_ = ()
        counts: dict[Path_, int] = {}
        at = 0
        while at < len(lines):
            end, statement = _statement(lines, at)
            if lines[at].lstrip().startswith("["):
                table = _table(_names(statement), lines[at].lstrip().startswith("[["), counts)
                for length in range(1, len(table) + 1):
                    self._lines.setdefault(table[:length], at + 1)
            else:
                self._note(table, statement, at + 1)
            at = end

    def _note(self, path: Path_, value: Any, line: int) -> None:
        children = (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        )
        for name, child in children:
            self._lines.setdefault((*path, name), line)
            self._note((*path, name), child, line)


@dataclasses.dataclass(frozen=True, slots=True)
class _Float:
    """A TOML float, as it was written: refused where it stands, never rounded."""

    text: str


def _syntax(error: Exception, text: str, file: str) -> Problem:
    found = re.fullmatch(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", str(error))
    line = int(found[2]) if found and found[2] else max(1, len(text.splitlines()))
    return Problem(file, line, f"this is not TOML: {found[1] if found else error}")


def _statement(lines: list[str], at: int) -> tuple[int, dict[str, Any]]:
    """End of the statement that begins at a line, and what it says; the whole text is known to be TOML."""
    for end in range(at + 1, len(lines)):
        try:
            return end, tomllib.loads("\n".join(lines[at:end]), parse_float=_Float)
        except tomllib.TOMLDecodeError:
            continue
    return len(lines), tomllib.loads("\n".join(lines[at:]), parse_float=_Float)


def _names(header: dict[str, Any]) -> Path_:
    """Names of a table header, read by itself: `[a.b]` is {a: {b: {}}}, `[[a]]` is {a: [{}]}."""
    names: Path_ = ()
    value: Any = header
    while value:
        if isinstance(value, list):
            value = value[0]
        else:
            ((name, value),) = value.items()
            names += (name,)
    return names


def _table(names: Path_, repeated: bool, counts: dict[Path_, int]) -> Path_:
    """Path of the table that a header opens; `counts` holds the newest index of each list of tables."""
    path: Path_ = ()
    for number, name in enumerate(names, 1):
        path += (name,)
        if repeated and number == len(names):
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path += (counts[path],)
    return path


# Shape and types: pydantic's errors in our words

_EXAMPLES = {
    "units": '[units] with money = { name = "CNY", scale = 2 }',
    "money": 'money = { name = "CNY", scale = 2 }',
    "products": "[[products]], at least one",
    "waterfall": '[[waterfall]], at least one, with pay = "principal"',
    "id": "id = 1, a number that is never used again",
    "from": 'from = "500.00", the least amount of the band',
    "pay": 'pay = "principal", "bonus" or "points"',
    "daily_rate": 'daily_rate = "0.01%"',
    "funding": 'funding = "growth", the account that pays for the growth',
    "scale": "scale = 2, the number of decimal places",
    "name": 'name = "..."',
}


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
    "list_type": "`{name}` is a list of tables: write [[{name}]], not [{name}]",
    "model_type": "`{name}` must be a table, not {kind}",
}


def _explained(error: ValidationError) -> list[tuple[Path_, str]]:
    return [(one["loc"], _sentence(one)) for one in error.errors(include_url=False)]


def _sentence(error: "ErrorDetails") -> str:
    path, name, value = error["loc"], str(error["loc"][-1]), error["input"]
    match error["type"]:
        case "extra_forbidden":
            return _unknown(path)
        case "greater_than_equal" | "less_than_equal":
            return f"`{name}` is {value}: use {_range(path)}"
        case known if known in _SENTENCES:
            words = {"name": name, "value": value, "kind": _kind(value), "example": _EXAMPLES.get(name)}
            return _SENTENCES[known].format(**(words | error.get("ctx", {})))
        case _:
            return f"`{name}`: {error['msg']}"


def _range(path: Path_) -> str:
    field = _model_at(path[:-1]).model_fields[str(path[-1])]
    least = next(limit.ge for limit in field.metadata if isinstance(limit, Ge))
    most = next(limit.le for limit in field.metadata if isinstance(limit, Le))
    return f"{least} to {most}"


def _kind(value: object) -> str:
    match value:
        case _Float():
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


def _unknown(path: Path_) -> str:
    known = [field.alias or name for name, field in _model_at(path[:-1]).model_fields.items()]
    near = difflib.get_close_matches(str(path[-1]), known, 1)
    mend = f"did you mean `{near[0]}`?" if near else f"remove it, or use one of {', '.join(known)}"
    return f"unknown key `{path[-1]}`: {mend}"


def _model_at(path: Path_) -> type[BaseModel]:
    """The model of the table at a path."""
    model: type[BaseModel] = RuleFile
    for name in path:
        if isinstance(name, str):
            model = _TABLES[name]
    return model


_TABLES: dict[str, type[BaseModel]] = {
    "units": Units,
    "money": Unit,
    "points": Unit,
    "products": Product,
    "top_up_bonus": Band,
    "waterfall": Step,
    "compounding": Compounding,
    "terminals": Terminals,
}


# Integers, and what spans several keys


class _Compiler:
    """Scales a rule file to the engine's integers. What cannot be scaled is a problem at its path."""

    def __init__(self, source: RuleFile) -> None:
        self.problems: list[tuple[Path_, str]] = []
        self._source = source
        self._scale = source.units.money.scale

    def tables(self) -> dict[str, Any]:
        """The tables; to be used only if there are no problems."""
        source = self._source
        if source.units.points.scale != POINTS_SCALE:
            self._problem(
                ("units", "points", "scale"), f"points are counted in 1/10,000: write scale = {POINTS_SCALE}"
            )
        return {
            "money": self._unit("money", source.units.money),
            "points": self._unit("points", source.units.points),
            "products": self._products(),
            "top_up_bonus": self._bands(),
            "waterfall": self._waterfall(),
            "compounding_rate": self._compounding(),
            "time_tolerance_s": source.terminals.time_tolerance_hours * 3600,
        }

    def _products(self) -> list[dict[str, Any]]:
        lines: dict[int, dict[str, Any]] = {}
        for at, product in enumerate(self._source.products):
            path = ("products", at)
            if product.id in lines:
                self._problem(
                    (*path, "id"), f"product {product.id} is there already: give this one another id"
                )
            lines[product.id] = {
                "id": product.id,
                "name": self._name((*path, "name"), product.name),
                "discount": self._discount((*path, "discount"), product.discount),
                "accrual": self._accrual((*path, "points_per_money"), product.points_per_money),
                "purchase_max": self._limit((*path, "purchase_max"), product.purchase_max, AMOUNT_MAX),
                "top_up_max": self._limit((*path, "top_up_max"), product.top_up_max, AMOUNT_MAX),
                "balance_max": self._limit((*path, "balance_max"), product.balance_max, PURSE_MAX),
            }
        return [lines[number] for number in sorted(lines)]

    def _name(self, path: Path_, name: str, most: int = NAME_MAX) -> str:
        if len(name.encode()) > most:
            self._problem(path, f"`name` is too long: use at most {most} bytes of UTF-8")
        return name

    def _unit(self, name: str, unit: Unit) -> dict[str, Any]:
        return {"name": self._name(("units", name, "name"), unit.name, UNIT_NAME_MAX), "scale": unit.scale}

    def _discount(self, path: Path_, percent: Decimal) -> int:
        if percent >= 100:
            self._problem(path, f"a discount of {percent}% leaves nothing to pay: it must be below 100%")
        return self._rate(path, percent)

    def _accrual(self, path: Path_, points: Decimal) -> int:
        most = Decimal(ACCRUAL_MAX) / ONE * 10**self._scale / 10**POINTS_SCALE
        if points > most:
            self._problem(path, f"more points than the engine can count: at most {most:f} per unit of money")
        return self._whole(path, points, 12 + POINTS_SCALE - self._scale, "points per money")

    def _limit(self, path: Path_, amount: Decimal | None, most: int) -> int:
        if amount is None:
            return 0
        if amount == 0:
            self._problem(path, f"`{path[-1]}` of 0 would forbid everything: leave it out for no limit")
        return self._money(path, amount, most)

    def _bands(self) -> list[dict[str, int]]:
        bands: list[dict[str, int]] = []
        for at, band in enumerate(self._source.top_up_bonus):
            path = ("top_up_bonus", at)
            start = self._money((*path, "from"), band.from_, AMOUNT_MAX)
            if band.from_ == 0:
                self._problem(
                    (*path, "from"), "a band begins at one minor unit or more: no top-up is below that"
                )
            if bands and start <= bands[-1]["from"]:
                before = self._source.top_up_bonus[at - 1].from_
                self._problem(
                    (*path, "from"),
                    f"the band from {band.from_} does not begin above the one before ({before}): "
                    "write each `from` once, in ascending order",
                )
            if band.rate > 1000:
                self._problem((*path, "rate"), f"a bonus of {band.rate}% is too much: at most 1000%")
            bonus = self._money((*path, "bonus"), band.bonus, AMOUNT_MAX)
            bands.append({"from": start, "bonus": bonus, "rate": self._rate((*path, "rate"), band.rate)})
        return bands

    def _waterfall(self) -> list[dict[str, Any]]:
        seen: set[str] = set()
        lines = []
        for at, step in enumerate(self._source.waterfall):
            path = ("waterfall", at)
            if step.pay in seen:
                self._problem(
                    (*path, "pay"), f"{step.pay} pays already: each purse stands in the waterfall once"
                )
            seen.add(step.pay)
            lines.append(
                {
                    "pay": step.pay,
                    "share": self._share((*path, "share"), step.share),
                    **self._points(path, step),
                }
            )
        if "principal" not in seen:
            self._problem(("waterfall",), 'principal is missing: add [[waterfall]] with pay = "principal"')
        elif sum(step.share for step in self._source.waterfall) < 100:
            self._problem(
                ("waterfall",),
                "the shares add up to less than 100%: no purchase could be paid; raise one of them",
            )
        return lines

    def _share(self, path: Path_, percent: Decimal) -> int:
        if not 0 < percent <= 100:
            self._problem(path, f"a share of {percent}% is impossible: it is above 0% and at most 100%")
        return self._rate(path, percent)

    def _points(self, path: Path_, step: Step) -> dict[str, int]:
        """Price and least points of a step; only points have them."""
        if step.pay != "points":
            for name in ("price", "min_points"):
                if getattr(step, name) is not None:
                    self._problem(
                        (*path, name), f"`{name}` belongs to points only: remove it from {step.pay}"
                    )
            return {"price": 0, "min_points": 0}
        if step.price is None:
            self._problem(path, '`price` is missing: add price = "0.01", the money that one point pays')
        elif step.price == 0:
            self._problem((*path, "price"), "a price of 0 pays nothing: leave the points step out instead")
        return {
            "price": self._price((*path, "price"), step.price or Decimal(0)),
            "min_points": self._min_points((*path, "min_points"), step.min_points or Decimal(0)),
        }

    def _price(self, path: Path_, price: Decimal) -> int:
        most = Decimal(PRICE_MAX) / ONE * 10**POINTS_SCALE / 10**self._scale
        if price > most:
            self._problem(path, f"a point pays at most {most:f}")
        return self._whole(path, price, 12 + self._scale - POINTS_SCALE, "the price of a point")

    def _min_points(self, path: Path_, points: Decimal) -> int:
        if points * 10**POINTS_SCALE > PURSE_MAX:
            self._problem(path, "more points than a purse can hold: lower it")
        return self._whole(path, points, POINTS_SCALE, "points")

    def _compounding(self) -> int:
        if self._source.compounding is None:
            return 0
        percent = self._source.compounding.daily_rate
        if percent > 10:
            self._problem(("compounding", "daily_rate"), f"{percent}% a day is too much: at most 10%")
        return self._rate(("compounding", "daily_rate"), percent)

    def _rate(self, path: Path_, percent: Decimal) -> int:
        return self._whole(path, percent, 10, "a percentage")

    def _money(self, path: Path_, amount: Decimal, most: int) -> int:
        units = self._whole(path, amount, self._scale, f"{self._source.units.money.name}")
        if units > most:
            self._problem(path, f"{amount} is too much: at most {Decimal(most).scaleb(-self._scale):f}")
        return units

    def _whole(self, path: Path_, number: Decimal, places: int, what: str) -> int:
        """The number times 10^places, which must be whole."""
        scaled = Fraction(number) * 10**places
        if scaled.denominator != 1:
            self._problem(path, f"{number:f} has too many decimal places: {what} can have at most {places}")
        return int(scaled)

    def _problem(self, path: Path_, message: str) -> None:
        self.problems.append((path, message))


# Sentences


def _sentences(rules: RuleFile) -> Any:
    money = rules.units.money.name
    for product in sorted(rules.products, key=lambda product: product.id):
        limits = [
            f"{words} at most {limit} {money}"
            for words, limit in (
                ("a purchase", product.purchase_max),
                ("a top-up", product.top_up_max),
                ("the balance", product.balance_max),
            )
            if limit is not None
        ]
        yield (
            f"Product {product.id}, {product.name}: {product.discount}% off every purchase, "
            f"{product.points_per_money} points per {money} paid"
            + "".join(f"; {limit}" for limit in limits)
            + "."
        )
    for band in rules.top_up_bonus:
        parts = [f"{band.bonus} {money}"] * (band.bonus > 0) + [f"{band.rate}% of the top-up"] * (
            band.rate > 0
        )
        yield f"A top-up from {band.from_} {money} on gives a bonus of {' and '.join(parts) or 'nothing'}."
    yield "A purchase is paid by " + ", then ".join(_step(step, money) for step in rules.waterfall) + "."
    if rules.compounding:
        yield f"Points grow by {rules.compounding.daily_rate}% a day, paid by the growth funding."
    else:
        yield "Points do not grow."
    yield f"Local time may lie up to {rules.terminals.time_tolerance_hours} hours outside the business date."


def _step(step: Step, money: str) -> str:
    words = step.pay if step.share == 100 else f"{step.pay} (at most {step.share}% of the amount due)"
    if step.pay != "points":
        return words
    least = f", from {step.min_points} points on" if step.min_points else ""
    return f"{words} at {step.price} {money} a point{least}, if the request asks for it"
