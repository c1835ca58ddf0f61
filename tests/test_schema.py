"""The JSON Schema of rule files: an independent validator with it says what the models say."""

import datetime
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from onecard.rules import RuleFile, Rules, RulesError, json_schema
from onecard.rules.located import Float, KeyPath
from tests.conftest import RULES
from tests.every_key import EVERY_KEY, PATHS, VALUES, replaced
from tests.test_card_rules import EDGE
from tests.test_cli import quick
from tests.test_rules import GOOD

ROOT = Path(__file__).resolve().parent.parent
FILES = [
    *("tests/cards.toml", "tests/every_key.toml"),
    *("bench/rules.toml", "bench/card.toml", "bench/w8.toml", "engine/onecard/demo/rules.toml"),
]

SCHEMA = json_schema()
VALIDATOR = Draft202012Validator(SCHEMA, format_checker=Draft202012Validator.FORMAT_CHECKER)


def seen(value: Any) -> Any:
    """TOML as an editor hands it to a schema: a date is its text."""
    match value:
        case dict():
            return {name: seen(child) for name, child in value.items()}
        case list():
            return [seen(child) for child in value]
        case datetime.date() | datetime.time():
            return value.isoformat()
        case Float():
            return float(value.text)
        case _:
            return value


def accepts(data: Any) -> bool:
    """True if the schema has nothing against it."""
    return VALIDATOR.is_valid(seen(data))


def tables() -> dict[str, dict[str, Any]]:
    """Every table of the schema: its keys by name."""
    return {"": SCHEMA["properties"]} | {name: of["properties"] for name, of in SCHEMA["$defs"].items()}


def test_it_is_a_schema_and_printed() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    done = quick("rules", "schema")
    assert (done.exit_code, done.stderr) == (0, "")
    assert json.loads(done.stdout) == SCHEMA == json_schema()


@pytest.mark.parametrize("file", FILES)
def test_every_rule_file_of_the_project_is_accepted(file: str) -> None:
    text = (ROOT / file).read_text()
    Rules.parse(text)
    VALIDATOR.validate(seen(tomllib.loads(text)))


def test_no_rule_file_of_the_project_is_left_out() -> None:
    found = {
        path.relative_to(ROOT).as_posix()
        for folder in ("tests", "bench", "engine", "docs")
        for path in (ROOT / folder).rglob("*.toml")
        if "[[products]]" in path.read_text()
    }
    assert found == set(FILES)


@pytest.mark.parametrize("text", [GOOD, RULES, EDGE], ids=["least", "chain", "edge"])
def test_good_rules_are_accepted(text: str) -> None:
    VALIDATOR.validate(seen(tomllib.loads(text)))


def test_every_key_has_every_key() -> None:
    """What the tests below go through, and those of the sentences: a key that is new belongs in it, too."""
    VALIDATOR.validate(seen(EVERY_KEY))
    missing = set(named_in(SCHEMA)) - set(used_in(SCHEMA, EVERY_KEY))
    assert not missing


def named_in(schema: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for title, of in [("", schema), *schema["$defs"].items()]:
        for name in of["properties"]:
            yield title, name


def used_in(schema: dict[str, Any], value: Any, title: str = "") -> Iterator[tuple[str, str]]:
    properties = (schema["$defs"][title] if title else schema)["properties"]
    for name, child in value.items():
        yield title, name
        inner = properties[name].get("$ref") or properties[name].get("items", {}).get("$ref")
        if inner:
            for table in child if isinstance(child, list) else [child]:
                yield from used_in(schema, table, inner.rpartition("/")[2])


@pytest.mark.parametrize("path", PATHS, ids=lambda path: ".".join(map(str, path)))
def test_schema_and_models_agree_on_every_value(path: KeyPath) -> None:
    for value in VALUES:
        data = replaced(path, value)
        try:
            RuleFile.model_validate(data)
            good = True
        except ValidationError:
            good = False
        # A schema sees a date as its text: it takes one where the models ask for the other.
        if isinstance(value, datetime.date | datetime.time) and not good and accepts(data):
            assert accepts(replaced(path, seen(value)))
            continue
        assert accepts(data) is good, value


@pytest.mark.parametrize(
    "text",
    [
        "",
        GOOD.replace("[units]", "[unit]"),
        GOOD.replace('name = "standard"', ""),
        GOOD.replace("[[products]]", "[products]"),
        GOOD.replace("scale = 2", "scale = 5"),
        GOOD.replace("id = 1", 'id = "1"'),
        GOOD + "shar = '5%'\n",
        GOOD + "share = 0.5\n",
        GOOD + 'share = "50"\n',
        GOOD + "[compounding]\ndaily_rate = '1%'\n",
        GOOD + "[compounding]\ndaily_rate = '1%'\nfunding = 'gift'\n",
        GOOD + "[terminals]\ntime_tolerance_hours = 169\n",
    ],
)
def test_wrong_rules_are_rejected(text: str) -> None:
    with pytest.raises(RulesError):
        Rules.parse(text)
    assert not accepts(tomllib.loads(text))


def test_every_key_is_explained() -> None:
    for title, keys in tables().items():
        for name, key in keys.items():
            table = SCHEMA["$defs"][key["$ref"].rpartition("/")[2]] if "$ref" in key else {}
            assert key.get("description") or table.get("description"), f"{title}.{name} has no docstring"


def test_defaults_could_be_written() -> None:
    found = 0
    for keys in tables().values():
        for key in keys.values():
            if "default" in key:
                VALIDATOR.evolve(schema=key | {"$defs": SCHEMA["$defs"]}).validate(key["default"])
                found += 1
    assert found > 10
