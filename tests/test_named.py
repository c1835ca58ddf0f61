"""A version of the rules names only stores and merchants that are registered, wherever it is published."""

from pathlib import Path

import pytest

from onecard import Client, Engine, Rules, RulesError
from tests.conftest import DAY, RULES, Serve, found_chain
from tests.test_cli import quick

MORE = """
[[discounts]]
id = 7
name = "elsewhere"
rate = "1%"
when = { stores = [1, 77], merchants = [1, 88] }
[[regions]]
name = "north"
stores = [99]
"""
LINE = RULES.count("\n") + 6
PROBLEMS = [
    f"{LINE}: store 77 is not registered: register it first, or remove it",
    f"{LINE}: merchant 88 is not registered: register it first, or remove it",
    f"{LINE + 3}: store 99 is not registered: register it first, or remove it",
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "next.toml"
    file.write_text(RULES + MORE)
    return file


@pytest.fixture
def data(tmp_path: Path) -> Path:
    with Engine(tmp_path / "data") as engine:
        found_chain(engine, Rules.parse(RULES))
    return tmp_path / "data"


def lines(file: Path) -> str:
    return "".join(f"{file}:{problem}\n" for problem in PROBLEMS)


def register(of: Engine | Client) -> None:
    answers = [
        of.register_merchant(88, "new"),
        of.register_store(77, 88, "new"),
        of.register_store(99, 1, "new"),
    ]
    assert answers == [0, 0, 0]


def test_in_process_it_is_refused_until_they_are_registered(chain: Engine, file: Path) -> None:
    for rules in (file, Rules.load(file)):
        with pytest.raises(RulesError) as caught:
            chain.publish(rules)
        assert f"{caught.value}\n" == lines(file)
    assert len(chain.rules_versions().versions) == 1
    register(chain)
    assert chain.publish(file) == 0


def test_tables_alone_say_which_rule_it_is(chain: Engine) -> None:
    rules = Rules.parse(RULES + MORE)
    with pytest.raises(ValueError, match="region 1: store 99 is not registered"):
        chain._core.publish(1, 2, rules.text, rules.tables_json)


def test_over_grpc_too(served_chain: Client, file: Path) -> None:
    with pytest.raises(RulesError) as caught:
        served_chain.publish(Rules.load(file))
    assert f"{caught.value}\n" == lines(file)
    register(served_chain)
    assert served_chain.publish(Rules.load(file)) == 0


@pytest.mark.parametrize("command", ["publish", "check"])
@pytest.mark.parametrize("served", [False, True])
def test_the_commands_name_file_and_line(
    command: str, served: bool, data: Path, file: Path, serve: Serve
) -> None:
    place = ["--target", serve(data).target] if served else [str(data)]
    done = quick("rules", command, file, *place)
    assert (done.exit_code, done.stdout, done.stderr) == (1, "", lines(file))


def test_check_without_a_programme_looks_at_the_file_alone(file: Path, data: Path) -> None:
    assert quick("rules", "check", file).exit_code == 0
    other = quick("rules", "check", file, data, "--programme", "2")
    assert other.exit_code == 1
    assert "there is no such programme" in other.stderr


def test_serve_does_not_begin_with_them(data: Path, file: Path) -> None:
    done = quick("serve", data, "--rules", file, "--listen", "127.0.0.1:0")
    assert (done.exit_code, done.stderr) == (1, lines(file))


def test_what_is_registered_is_found(data: Path, file: Path) -> None:
    with Engine(data) as engine:
        register(engine)
        assert engine.check_registered(Rules.load(file)) == 0
        assert engine.close_day(DAY).code == 0
    done = quick("rules", "check", file, data)
    assert done.exit_code == 0
    assert "Discount 7, elsewhere: 1% off in stores 1, 77, at merchants 1, 88" in done.stdout
