"""Files of keys: who may read them, what is refused, and that nothing ever shows a key."""

import pickle
import re
import stat
from pathlib import Path

import pytest

from onecard import Engine, Secrets, SecretsError, rows
from tests.conftest import found_chain
from tests.test_whole_card import CARD, OFF, OTHER, RULES, key

KEY = "ab" * 32


def file_of(tmp_path: Path, text: str, mode: int = 0o600) -> Path:
    file = tmp_path / "keys"
    file.write_text(text)
    file.chmod(mode)
    return file


def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    made = Secrets.new(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert Secrets.load(file).keys() == made.keys()
    assert made.numbers == (1,)
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_that_is_there_is_left_alone(tmp_path: Path) -> None:
    file = file_of(tmp_path, f"7 {KEY}\n")
    with pytest.raises(FileExistsError):
        Secrets.new(file)
    assert Secrets.load(file).numbers == (7,)
    assert list(tmp_path.iterdir()) == [file]


def test_rotating_keeps_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    first = Secrets.new(file)
    second = Secrets.rotate(file)
    assert second.numbers == (1, 2)
    assert second.keys()[0] == first.keys()[0]
    assert Secrets.load(file).keys() == second.keys()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_file_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(SecretsError, match="chmod 600"):
        Secrets.load(file_of(tmp_path, f"1 {KEY}\n", mode))


def test_comments_and_blank_lines_do_not_count(tmp_path: Path) -> None:
    file = file_of(tmp_path, f"# keys\n\n  1 {KEY}  # the first\n2 {KEY.upper()}\n")
    assert Secrets.load(file).keys() == [(1, bytes.fromhex(KEY)), (2, bytes.fromhex(KEY))]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no key in it"),
        (f"{KEY}\n", ":1: write a number"),
        (f"1 {KEY}\n1 {KEY}\n", ":2: key 1 is there twice"),
        (f"0 {KEY}\n", ":1: write a number"),
        (f"4294967296 {KEY}\n", ":1: write a number"),
        (f"-1 {KEY}\n", ":1: write a number"),
        (f"1 {KEY}00\n", ":1: write a number"),
        (f"1 {KEY[:-2]}zz\n", ":1: write a number"),
        (f"1 {KEY} x\n", ":1: write a number"),
    ],
)
def test_what_is_no_key_is_named_by_its_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(SecretsError, match=says) as caught:
        Secrets.load(file_of(tmp_path, text))
    assert KEY[:60] not in str(caught.value)


def test_nothing_shows_a_key() -> None:
    made = Secrets({3: bytes.fromhex(KEY), 1: bytes(32)})
    assert (repr(made), str(made)) == ("<Secrets: keys 1, 3>",) * 2
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(made)
    with pytest.raises(ValueError, match="32 bytes, not 3") as caught:
        Secrets({1: b"abc"})
    assert "abc" not in str(caught.value)
    with pytest.raises(ValueError, match="at least one"):
        Secrets({})


def test_an_alias_is_known_by_its_digits_and_a_code_by_its_text(tmp_path: Path) -> None:
    secrets = Secrets({1: bytes.fromhex(KEY)})
    with Engine(tmp_path / "data", secrets=secrets) as engine:
        assert (engine.alias(1, "138 0000-0000") == engine.alias(1, " 13800000000 ")).all()
        assert (engine.alias(1, "13800000000") != engine.alias(2, "13800000000")).all()
        assert (engine.alias(1, "13800000000") != engine.alias(1, "13800000000", programme=2)).all()
        with pytest.raises(ValueError, match="phone number"):
            engine.alias(1, "nobody")
        codes = engine.codes(16, 1, 1_000)
    assert len(set(codes)) == 1_000
    assert all(re.fullmatch("1[0-9A-HJKMNP-TV-Z]{25}", code) for code in codes)
    with Engine(tmp_path / "other") as engine:
        with pytest.raises(ValueError, match="onecard secrets new FILE"):
            engine.alias(1, "1")
        with pytest.raises(ValueError, match="onecard secrets new FILE"):
            engine.codes(16, 1, 1)


def test_what_an_old_key_made_is_good_until_the_key_is_gone(tmp_path: Path) -> None:
    file, phone = tmp_path / "keys", "138 0000 0000"
    with Engine(tmp_path / "data", secrets=Secrets.new(file)) as engine:
        found_chain(engine, RULES)
        issued = rows.issue(card=[CARD, OTHER], product=1, **key(1) | {"trace": [1, 2]})
        money = rows.top_up(card=[CARD, OTHER], amount=90_000, **key(3) | {"trace": [3, 4]})
        pins = rows.with_items(
            rows.set_pin(card=[CARD, OTHER], **key(5) | {"trace": [5, 6]}), [[rows.new_pin("0042")]] * 2
        )
        bound = rows.with_items(rows.bind(card=CARD, **key(7)), [[engine.alias(1, phone)]])
        out = rows.issue_codes(unit=OFF, count=2, **key(8))
        assert not engine.execute(rows.together(issued, money, pins, bound, out))["code"].any()
        old = engine.codes(OFF, 1, 1)

    def pay(engine: Engine, trace: int, card: str | None, *items: rows.Items) -> tuple[int, int]:
        asked = rows.purchase(card=card, amount=20_000, **key(trace))
        answer = engine.execute(rows.with_items(asked, [list(items)]))
        return int(answer["code"][0]), int(answer["reason"][0])

    with Engine(tmp_path / "data", secrets=Secrets.rotate(file)) as engine:
        # Alias, PIN and code of the first key are good; a wrong PIN is told from a right one.
        assert pay(engine, 10, None, engine.alias(1, phone), rows.pin("0041")) == (55, 0)
        assert pay(engine, 11, None, engine.alias(1, phone), rows.pin("0042"), rows.code(old[0])) == (0, 0)
        changed = rows.with_items(
            rows.set_pin(card=CARD, **key(12)), [[rows.pin("0042"), rows.new_pin("7777")]]
        )
        assert not engine.execute(changed)["code"].any()
        assert pay(engine, 13, CARD, rows.pin("0042")) == (55, 0)
        new = engine.codes(OFF, 2, 1)
    second = Secrets({2: dict(Secrets.load(file).keys())[2]})
    with Engine(tmp_path / "data", secrets=second) as engine:
        # What was made anew lives without the first key; what was not cannot be looked at: no try counts.
        assert pay(engine, 20, CARD, rows.pin("7777"), rows.code(new[0])) == (0, 0)
        assert pay(engine, 21, OTHER, rows.pin("0041")) == (91, 0)
    with Engine(tmp_path / "data", secrets=Secrets.load(file)) as engine:
        assert [pay(engine, trace, OTHER, rows.pin("0041")) for trace in (30, 31)] == [(55, 0)] * 2
        assert pay(engine, 32, OTHER, rows.pin("0042")) == (0, 0)
