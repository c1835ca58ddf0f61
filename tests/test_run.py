"""`onecard run`: requests as JSON lines, answers as JSON lines, in this process and against a server."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from onecard import Engine, Rules, Secrets, cli
from onecard.run import METHODS, Malformed, read
from tests.conftest import DAY, RULES, Serve, found_chain
from tests.test_cli import onecard

CARD = "6200000000000001"
Envelope = dict[str, Any]


def header(trace: int, **more: Any) -> Envelope:
    return {"terminal": 11, "business_date": int(f"{DAY:%Y%m%d}"), "trace": trace, **more}


def issue(trace: int = 1) -> Envelope:
    return {"method": "Issue", "request": {"header": header(trace), "card": CARD, "product": 1}}


def top_up(trace: int, amount: int = 100) -> Envelope:
    return {"method": "TopUp", "request": {"header": header(trace), "card": CARD, "amount": amount}}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with the small chain."""
    with Engine(tmp_path / "data") as engine:
        found_chain(engine, Rules.parse(RULES))
    return tmp_path / "data"


def run(*arguments: str | os.PathLike[str], text: str | None = None) -> Result:
    """In this process; `text` is standard input."""
    runner = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
    return runner.invoke(cli.app, ["run", *map(str, arguments)], input=text)


def lines(*envelopes: Envelope | str) -> str:
    return "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in envelopes)


def answers(text: str) -> list[Envelope]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_file_is_answered_line_by_line(tmp_path: Path, data: Path) -> None:
    file, output = tmp_path / "day.jsonl", tmp_path / "answers.jsonl"
    file.write_text(lines("# a day", "", issue(), top_up(2), "  # more", top_up(3)))
    done = onecard("run", file, "--data", data, "--output", output)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    found = answers(output.read_text())
    assert [(one["line"], one["method"]) for one in found] == [(3, "Issue"), (4, "TopUp"), (6, "TopUp")]
    assert [one["response"]["answer"]["code"] for one in found] == [0, 0, 0]
    assert found[2]["response"]["answer"]["principal_balance"] == "200", "64 bits are text in JSON"
    again = answers(onecard("run", file, "--data", data).stdout)
    assert all(one["response"]["answer"]["replayed"] for one in again)


def test_a_server_answers_the_same(tmp_path: Path, serve: Serve, data: Path) -> None:
    served = serve(data)
    text = lines(issue(), top_up(2), {"method": "ListPositions", "request": {"programme": 1}})
    done = run("-", "--target", served.target, text=text)
    assert done.exit_code == 0
    assert [one["line"] for one in answers(done.stdout)] == [1, 2, 3]
    assert answers(done.stdout)[2]["response"]["stores"][0]["collected"] == "100"


def test_malformed_lines_are_named_and_stop_nobody(data: Path) -> None:
    text = lines(
        issue(),
        "{",
        {"method": "Fly", "request": {}},
        {"method": "TopUp"},
        {"method": "TopUp", "request": {"amont": 1}},
        {"method": "TopUp", "request": {"header": header(7), "card": "12", "amount": 1}},
        top_up(8),
    )
    done = run("-", "--data", data, text=text)
    assert done.exit_code == 1
    found = answers(done.stdout)
    assert ["error" in one for one in found] == [False, True, True, True, True, True, False]
    told = done.stderr.splitlines()
    assert [line.split(": ")[0] for line in told] == [f"standard input:{at}" for at in range(2, 7)]
    assert "no JSON" in told[0]
    assert "Purchase" in told[1], "it says what methods there are"
    assert "amont" in told[3]
    assert "card: send 8 to 19 digits" in told[4]
    assert found[-1]["response"]["answer"]["principal_balance"] == "100"


def test_a_line_that_is_no_utf8_is_named(tmp_path: Path, data: Path) -> None:
    file = tmp_path / "day.jsonl"
    file.write_bytes(lines(issue()).encode() + b'{"\xff": 1}\n' + lines(top_up(2)).encode())
    done = run(file, "--data", data)
    assert done.exit_code == 1
    assert done.stderr == f"{file}:2: this is no UTF-8\n"
    assert ["error" in one for one in answers(done.stdout)] == [False, True, False]


def test_a_run_stops_where_it_is_told(data: Path) -> None:
    text = lines(issue(), top_up(2, -5), top_up(3), "{", top_up(4))
    done = run("-", "--data", data, "--stop-on-refusal", text=text)
    assert (done.exit_code, len(answers(done.stdout))) == (1, 2)
    done = run("-", "--data", data, "--stop-on-malformed", text=text)
    assert (done.exit_code, len(answers(done.stdout))) == (1, 4)
    assert run("-", "--data", data, text=lines(top_up(9, -5))).exit_code == 0, "a refusal is an answer"


def test_every_method_can_be_asked(data: Path) -> None:
    assert {"Transact", "Purchase", "BulkTopUp", "Register", "ListCodes", "CloseDay", "GetMember"} <= set(
        METHODS
    )
    transact = {"transactions": [{"issue": issue()["request"]}, {"top_up": top_up(2)["request"]}, {}]}
    tables = json.loads(Rules.parse(RULES).tables_json)
    terminal = {"programme": 1, "terminal": 99, "store": 7}
    publish = {"programme": 1, "version": 2, "text": RULES, "tables": tables}
    text = lines(
        {"method": "Transact", "request": transact},
        {"method": "PublishRules", "request": publish},
        {
            "method": "Register",
            "request": {"registrations": [{"terminal": terminal}]},
        },
    )
    done = run("-", "--data", data, text=text)
    first, second, third = (one["response"] for one in answers(done.stdout))
    assert [answer["code"] for answer in first["answers"]] == [0, 0, 30]
    assert second["code"] == 0
    assert third["codes"] == [12]


def test_a_member_is_shown_whole(data: Path) -> None:
    consents = {"messages": {"given": True, "date": 20260302}}
    member = {
        "id": 7,
        "name": "王芳",
        "attributes": {"language": "zh"},
        "consents": consents,
        "enrolled": 20260302,
    }
    text = lines(
        {"method": "EnrolMember", "request": {"programme": 1, "member": member}},
        {"method": "GetMember", "request": {"programme": 1, "id": 7}},
    )
    done = run("-", "--data", data, text=text)
    enrolled, found = (one["response"] for one in answers(done.stdout))
    assert (done.exit_code, enrolled["code"], found["code"]) == (0, 0, 0)
    assert found["member"] == member | {"id": "7"}


def test_keys_are_given_by_a_file(tmp_path: Path, data: Path) -> None:
    Secrets.new(tmp_path / "keys")
    request = {"header": header(2), "card": CARD, "new_pin": "0042"}
    text = lines(issue(), {"method": "SetPin", "request": request})
    refused = run("-", "--data", data, text=text)
    assert refused.exit_code == 1
    assert "onecard secrets new FILE" in refused.stderr
    done = run("-", "--data", data, "--secrets", tmp_path / "keys", text=text)
    assert done.exit_code == 0
    (tmp_path / "keys").chmod(0o644)
    open_to_all = run("-", "--data", data, "--secrets", tmp_path / "keys", text=text)
    assert (open_to_all.exit_code, "chmod 600" in open_to_all.stderr) == (1, True)


@pytest.mark.parametrize("pin", [471199, "471199x", ["471199"], {"a": "471199"}, "4711994711994711"])
def test_no_error_shows_a_pin(data: Path, pin: Any) -> None:
    request = {"header": header(2), "card": CARD, "amount": 1, "pin": pin}
    further = {"header": header(3), "card": CARD, "amount": 1, "cards": [{"card": CARD, "pin": pin}]}
    text = lines({"method": "Purchase", "request": request}, {"method": "Purchase", "request": further})
    done = run("-", "--data", data, text=text)
    assert "4711" not in done.stdout + done.stderr
    if not isinstance(pin, str):
        assert "text of 4 to 12 digits" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [(), ("--data", "x", "--target", "127.0.0.1:1"), ("--target", "127.0.0.1:1", "--secrets", __file__)],
)
def test_wrong_use_is_2(arguments: tuple[str, ...]) -> None:
    done = run("-", *arguments, text="")
    assert done.exit_code == 2
    assert "Usage" in done.stderr


def test_a_server_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onecard.client._PAUSE_MAX_S", 0.001)
    done = run("-", "--target", "127.0.0.1:1", text=lines("", issue()))
    assert done.exit_code == 1
    assert "outcome is unknown" in done.stderr
    assert "it was line 2" in done.stderr


@pytest.mark.parametrize(
    "text", ["[]", "null", '{"method": 1, "request": {}}', '{"method": "Void", "request": []}', "\udcff"]
)
def test_what_is_no_envelope_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        read(text)


def test_a_text_that_is_no_text_is_malformed() -> None:
    with pytest.raises(Malformed, match="surrogate"):
        read('{"method": "TopUp", "request": {"card": "\\ud800"}}')
