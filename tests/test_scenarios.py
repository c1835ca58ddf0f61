"""docs/scenarios.md, run from top to bottom: every request is answered as the page says.

A block `jsonl` has one request a line, a block `json request` has one request on several lines. The block
`json` after either has the expected answers, one a line: fields that must be there with these values; of a
list those that must be there, in this order; `{}` for nothing. A block `text` is the receipt of the answer
before.
"""

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from typer.testing import CliRunner

from onecard import cli
from onecard.receipt import Style, render
from onecard.v1 import transaction_pb2
from tests.conftest import Serve

PAGE = Path(__file__).parent.parent / "docs" / "scenarios.md"
FENCE = re.compile(r"^```(\w+)( request)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FEATURES = (
    [f"S{number}" for number in [*range(1, 11), *range(12, 18), 19, 20, 21, 25, 42]]
    + [f"P{number}" for number in [*range(1, 7), 10, 13]]
    + ["N2", "N3"]
)


@dataclass(frozen=True)
class Step:
    """A request, and what is expected of its answer."""

    request: str
    expected: dict[str, Any]
    receipt: str | None = None


def steps() -> list[Step]:
    found: list[Step] = []
    waiting: list[str] = []
    for kind, request, body in FENCE.findall(PAGE.read_text()):
        if request:
            waiting.append(json.dumps(json.loads(body)))
        elif kind == "jsonl":
            waiting += body.splitlines()
        elif kind == "json":
            expected = map(json.loads, body.splitlines())
            found += paired(waiting, list(expected))
            waiting = []
        else:
            found[-1] = Step(found[-1].request, found[-1].expected, body)
    assert not waiting, "the last requests have no answers"
    return found


def paired(requests: list[str], answers: list[dict[str, Any]]) -> Iterator[Step]:
    assert len(requests) == len(answers), (
        f"{len(answers)} answers for {len(requests)} requests: {requests[0]}"
    )
    return map(Step, requests, answers)


def differences(expected: Any, found: Any, where: str) -> Iterator[str]:
    """What of the expected is not found. Numbers of 64 bits are text in JSON, and what is 0 is left out."""
    if isinstance(expected, dict) and expected:
        if not isinstance(found, dict):
            yield f"{where}: {found!r} is no {expected!r}"
            return
        for name, value in expected.items():
            yield from differences(value, found.get(name), f"{where}.{name}")
    elif isinstance(expected, list) and expected and isinstance(expected[0], dict):
        rest = iter(found or [])
        for at, one in enumerate(expected):
            if not any(not list(differences(one, other, "")) for other in rest):
                yield f"{where}[{at}]: {one} is not in {found}"
                return
    else:
        same = found == expected or str(found) == str(expected) or (found is None and not expected)
        if not same:
            yield f"{where}: {found!r} is not {expected!r}"


def style() -> Style:
    """How receipts look under the rules of the page."""
    publish = next(json.loads(step.request) for step in steps() if "PublishRules" in step.request)
    tables = publish["request"]["tables"]
    units = {unit["id"]: unit["name"] for unit in tables["units"]}
    return Style(money=tables["money"]["name"], scale=tables["money"]["scale"], units=units)


def check(text: str) -> None:
    answers = [json.loads(line) for line in text.splitlines()]
    wrong: list[str] = []
    for step, answer in itertools.zip_longest(steps(), answers):
        assert step is not None
        assert answer is not None, f"no answer to {step.request}"
        found = answer.get("response", {"error": answer.get("error")})
        problems = list(differences(step.expected, found, answer.get("method", "error")))
        if step.receipt is not None:
            message = json_format.ParseDict(found["answer"], transaction_pb2.Answer())
            if (receipt := render(message, style=style())) != step.receipt:
                problems.append(f"the receipt is\n{receipt}")
        wrong += [f"{step.request}\n  {problem}\n  {json.dumps(found)}" for problem in problems]
    assert not wrong, "\n".join(wrong)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """The page's requests as a file, and its key."""
    requests, keys = tmp_path / "scenarios.jsonl", tmp_path / "keys"
    requests.write_text("".join(f"{step.request}\n" for step in steps()))
    key = re.search(r"`(1 [0-9a-f]{64})`", PAGE.read_text())
    assert key
    keys.write_text(key[1])
    keys.chmod(0o600)
    return requests, keys


def run(*arguments: str | Path) -> str:
    done = CliRunner().invoke(cli.app, ["run", *map(str, arguments)])
    assert done.exit_code == 0, done.stderr
    return done.stdout


def test_every_feature_has_its_scenario() -> None:
    assert re.findall(r"^## ([A-Z]\d+): ", PAGE.read_text(), re.MULTILINE) == [
        *(name for name in FEATURES if name != "P10"),
        "P10",
    ]


def test_the_page_is_answered_in_this_process(tmp_path: Path, files: tuple[Path, Path]) -> None:
    requests, keys = files
    check(run(requests, "--data", tmp_path / "data", "--secrets", keys))


def test_the_page_is_answered_by_a_server(serve: Serve, tmp_path: Path, files: tuple[Path, Path]) -> None:
    requests, keys = files
    served = serve(tmp_path / "data", "--secrets", str(keys))
    check(run(requests, "--target", served.target))
    assert served.stop() == 0


@pytest.mark.parametrize(
    ("expected", "found", "count"),
    [
        ({"a": 1}, {"a": "1", "b": 2}, 0),
        ({"a": 0, "b": False, "c": []}, {}, 0),
        ({"a": {}}, {"a": {"b": 1}}, 1),
        ({"a": 1}, {}, 1),
        ({"a": [{"b": 1}, {"b": 3}]}, {"a": [{"b": 1}, {"b": 2}, {"b": 3, "c": 4}]}, 0),
        ({"a": [{"b": 3}, {"b": 1}]}, {"a": [{"b": 1}, {"b": 3}]}, 1),
        ({"a": [1, 2]}, {"a": [1, 2]}, 0),
        ({"a": [1, 2]}, {"a": [1, 2, 3]}, 1),
        ({"a": {"b": 1}}, {"a": 1}, 1),
    ],
)
def test_what_differs_is_seen(expected: Any, found: Any, count: int) -> None:
    assert len(list(differences(expected, found, ""))) == count
