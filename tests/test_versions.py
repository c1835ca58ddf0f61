"""Versions of the rules: published between two swipes, told afterwards as they were, and compared.

The commands are run both ways, with a data directory and with a server.
"""

import dataclasses
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from onecard import Client, Engine, Rules, codes, rows
from onecard.client import Purchase
from onecard.reports import PublishedRules, RulesVersion, RulesVersions
from tests import auditor
from tests.conftest import DAY, RULES, Serve, Served, found_chain
from tests.test_cli import onecard, quick

CARD = "6200000000000001"
NEXT_DAY = DAY.replace(day=3)


def with_discount(percent: int) -> str:
    """The chain's rules with another discount."""
    return RULES.replace('"5%"', f'"{percent}%"')


PRODUCT = (
    "Product 1, standard: {}% off every purchase, 1 points per CNY paid; a purchase at most 5000.00 CNY; "
)
PRODUCT += "a top-up at most 10000.00 CNY; the balance at most 50000.00 CNY."


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with the small chain."""
    with Engine(tmp_path / "data") as engine:
        found_chain(engine, Rules.parse(RULES))
    return tmp_path / "data"


@pytest.fixture(params=["directory", "target"])
def place(request: pytest.FixtureRequest, data: Path, serve: Serve) -> list[str]:
    """The small chain as the arguments of a command name it: its directory, or a server."""
    return [str(data)] if request.param == "directory" else ["--target", serve(data).target]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A rule file that is not published yet."""
    file = tmp_path / "next.toml"
    file.write_text(with_discount(6))
    return file


def table(text: str) -> list[list[str]]:
    """The cells of a table, row by row."""
    return [
        [cell.strip() for cell in line.strip("│").split("│")] for line in text.splitlines() if "│" in line
    ]


# publish


def test_a_file_is_published_once(place: list[str], file: Path) -> None:
    done = quick("rules", "publish", file, *place)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "version 2 of programme 1 is published\n", "")
    again = quick("rules", "publish", file, *place)
    assert (again.exit_code, again.stderr) == (0, "")
    assert again.stdout == "version 2 of programme 1 has this text already\n"
    file.write_text(RULES)
    back = quick("rules", "publish", file, *place)
    assert back.stdout == "version 3 of programme 1 is published\n", "an older text is a version of its own"
    assert [row[0] for row in table(quick("rules", "history", *place).stdout)] == ["1", "2", "3"]


def test_bad_rules_are_not_published(place: list[str], file: Path) -> None:
    file.write_text(RULES.replace("discount", "discont"))
    done = quick("rules", "publish", file, *place)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == f"{file}:8: unknown key `discont`: did you mean `discount`?\n"
    file.write_text(RULES.replace("id = 1", "id = 2"))
    done = quick("rules", "publish", file, *place)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == (
        f"error: {file}: product 1 is in version 1 and missing now; cards may have it: keep it\n"
    )
    assert len(table(quick("rules", "history", *place).stdout)) == 1


def test_each_programme_has_versions_of_its_own(place: list[str], file: Path) -> None:
    refused = quick("rules", "publish", file, *place, "--programme", "2")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr == (
        f"error: {file} was answered 58 (terminal not registered): "
        "there is no such programme: name another with --programme\n"
    )
    with Client(place[1]) if len(place) > 1 else Engine(place[0]) as of:
        assert of.register_programme(2, "another", DAY) == 0
    none = quick("rules", "history", *place, "--programme", "2")
    assert (none.exit_code, none.stdout) == (0, "no rules were published yet\n")
    done = quick("rules", "publish", file, *place, "--programme", "2")
    assert done.stdout == "version 1 of programme 2 is published\n"
    told = quick("rules", "history", *place, "--programme", "2", "--version", "1")
    assert told.stdout == file.read_text()
    assert quick("rules", "history", *place, "--version", "1").stdout == RULES
    assert quick("rules", "diff", "1", file, *place, "--programme", "2").exit_code == 0


def test_a_version_that_somebody_else_published_is_not_replaced(
    served_chain: Client, served: Served, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the newest version and the publishing others come."""
    before = served_chain.rules()
    monkeypatch.setattr(Client, "rules", lambda *_: before)
    for version, code in [(2, "94"), (3, "12")]:
        assert served_chain.publish(Rules.parse(with_discount(5 + version)), version) == 0
        done = quick("rules", "publish", file, "--target", served.target)
        assert (done.exit_code, done.stdout) == (1, "")
        assert f"{file} was answered {code} (" in done.stderr
        assert "): somebody else has published meanwhile" in done.stderr
    assert len(served_chain.rules_versions().versions) == 3


# history


def test_the_history_tells_what_changed(data: Path, serve: Serve) -> None:
    with Engine(data) as engine:
        assert engine.publish(Rules.parse(RULES + "# more\n")) == 0
        assert engine.close_day(DAY).code == 0
        assert engine.publish(Rules.parse(with_discount(6))) == 0
        more = '[[channels]]\nid = 2\nname = "web"\n'
        assert engine.publish(Rules.parse(RULES + more)) == 0
        assert engine.publish(dataclasses.replace(Rules.parse(RULES), text="no rules")) == 0
        assert engine.publish(Rules.parse(RULES)) == 0
        sequences = [str(version.sequence) for version in engine.rules_versions().versions]
    said = len(Rules.parse(RULES).explain())
    changes = [f"+{said}", "no difference", "-1 +1", "-1 +2", *["unknown: a text is no rule file"] * 2]
    dates = [DAY, DAY, *[NEXT_DAY] * 4]
    expected = [
        [str(number), str(date), sequence, change]
        for number, (date, sequence, change) in enumerate(zip(dates, sequences, changes, strict=True), 1)
    ]
    done = quick("rules", "history", data)
    assert (done.exit_code, done.stderr) == (0, "")
    assert table(done.stdout) == expected
    assert table(quick("rules", "history", "--target", serve(data).target).stdout) == expected


@pytest.mark.parametrize(
    "text",
    ["# 第二版 — “b”\r\n" + RULES.replace("\n", "\r\n"), RULES.rstrip("\n"), RULES + "\n\n \t\n# \x7f"[:-1]],
    ids=["lines of Windows", "no end of line", "blanks"],
)
def test_a_text_is_told_byte_for_byte(place: list[str], file: Path, text: str) -> None:
    file.write_bytes(text.encode())
    assert quick("rules", "publish", file, *place).exit_code == 0
    done = quick("rules", "history", *place, "--version", "2")
    assert (done.exit_code, done.stdout_bytes, done.stderr) == (0, file.read_bytes(), "")


def test_a_text_is_told_in_any_locale(data: Path, file: Path) -> None:
    file.write_text("# 第二版\n" + RULES, encoding="utf-8")
    assert onecard("rules", "publish", file, data, LC_ALL="C", PYTHONIOENCODING="ascii").returncode == 0
    done = onecard("rules", "history", data, "--version", "2", PYTHONIOENCODING="utf-8")
    assert done.stdout == file.read_text(encoding="utf-8")


def test_what_is_not_there_is_said(place: list[str]) -> None:
    for arguments, says in [
        (["history", "--version", "2"], "programme 1 has no version 2 of its rules: the newest is 1"),
        (["history", "--programme", "3"], "there is no programme 3"),
        (["history", "--programme", "3", "--version", "1"], "there is no programme 3"),
    ]:
        done = quick("rules", *arguments, *place)
        assert (done.exit_code, done.stdout, done.stderr) == (1, "", f"error: {says}\n")


# diff


def test_a_difference_is_said_in_sentences(place: list[str], file: Path) -> None:
    expected = f"- {PRODUCT.format(5)}\n+ {PRODUCT.format(6)}\n"
    done = quick("rules", "diff", "1", file, *place)
    assert (done.exit_code, done.stdout, done.stderr) == (1, expected, "")
    assert quick("rules", "publish", file, *place).exit_code == 0
    assert quick("rules", "diff", "1", "2", *place).stdout == expected
    back = quick("rules", "diff", file, "1", *place)
    assert back.stdout == f"- {PRODUCT.format(6)}\n+ {PRODUCT.format(5)}\n"
    same = quick("rules", "diff", "2", file, *place)
    assert (same.exit_code, same.stdout, same.stderr) == (0, "no difference\n", "")
    for arguments, says in [
        (["1", "3"], "programme 1 has no version 3 of its rules: the newest is 2"),
        (["1", "2", "--programme", "4"], "there is no programme 4"),
    ]:
        done = quick("rules", "diff", *arguments, *place)
        assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"error: {says}\n")


def test_files_are_compared_without_an_engine(tmp_path: Path, file: Path) -> None:
    old = tmp_path / "old.toml"
    old.write_text(RULES + '[[channels]]\nid = 2\nname = "a"\n[[channels]]\nid = 3\nname = "b"\n')
    file.write_text('[[channels]]\nid = 3\nname = "b"\n[[channels]]\nid = 2\nname = "a"\n' + RULES)
    moved = onecard("rules", "diff", old, file)
    assert (moved.returncode, moved.stdout, moved.stderr) == (0, "no difference\n", "")
    file.write_text(RULES.replace("scale = 2", "scale = 3"))
    done = onecard("rules", "diff", old, file)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines() == [
        "- Money is CNY, counted to 2 decimal places; points are called POINTS.",
        "- What comes in by channel 2, a, is collected by the store.",
        "- What comes in by channel 3, b, is collected by the store.",
        "+ Money is CNY, counted to 3 decimal places; points are called POINTS.",
    ]


def test_what_cannot_be_compared_is_2(data: Path, file: Path) -> None:
    with Engine(data) as engine:
        assert engine.publish(dataclasses.replace(Rules.parse(RULES), text="x = 1")) == 0
    done = quick("rules", "diff", "1", "2", data)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "version 2:1: unknown key `x`" in done.stderr
    file.write_text("x = 1\n")
    done = quick("rules", "diff", file, file)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith(f"{file}:1: unknown key `x`")


# Used wrongly


def test_wrong_use_of_versions_is_2(tmp_path: Path, data: Path, file: Path) -> None:
    cases: list[tuple[list[str | Path], str]] = [
        (["publish", tmp_path / "none.toml", data], "does not exist"),
        (["publish", file, tmp_path / "none"], "does not exist"),
        (["publish", file, tmp_path], "there is no data directory at"),
        (["publish", file, data, "--target", "127.0.0.1:1"], "name one: DIR or --target HOST:PORT"),
        (["publish", file, data, "--programme", "0"], "Invalid value for '--programme'"),
        (["history", data, "--target", "127.0.0.1:1"], "name one: DIR or --target HOST:PORT"),
        (["history", data, "--version", "0"], "Invalid value for '--version'"),
        (["diff", file], "Missing argument"),
        (["diff", file, tmp_path / "none.toml"], "there is no file"),
        (["diff", "0", file, data], "there is no version 0"),
        (["diff", "4294967296", file, data], "there is no version 4294967296"),
    ]
    for arguments, says in cases:
        done = quick("rules", *arguments)
        assert (done.exit_code, done.stdout) == (2, "")
        assert says in " ".join(done.stderr.replace("│", " ").split()), arguments
    assert not [path for path in tmp_path.iterdir() if path not in (data, file)], "nothing was made"


def test_the_directory_of_the_user_is_meant_without_a_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data: Path, file: Path
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    done = quick("rules", "history")
    assert (done.exit_code, "there is no data directory" in done.stderr) == (2, True)
    data.rename(tmp_path / "onecard")
    assert quick("rules", "publish", file).exit_code == 0
    assert len(table(quick("rules", "history").stdout)) == 2
    assert quick("rules", "diff", "1", "2").exit_code == 1


def test_what_is_broken_is_one_line(data: Path, serve: Serve, file: Path) -> None:
    served = serve(data)
    for command, exit_code in [(f"publish {file}", 1), ("history", 1), (f"diff 1 {file}", 2)]:
        done = quick("rules", *command.split(), data)
        assert (done.exit_code, done.stdout) == (exit_code, "")
        assert str(served.process.pid) in done.stderr, "who has the directory open"
    assert served.stop() == 0
    done = quick("rules", "diff", "1", file, "--target", served.target)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("error: no answer after ")
    assert done.stderr.count("\n") == 1


# Kept


def test_versions_outlive_reopening_checkpoints_and_kills(serve: Serve, served: Served) -> None:
    texts = [RULES, *(with_discount(percent) for percent in range(6, 12))]
    with Client(served.target, terminal=11, business_date=DAY) as client:
        found_chain(client, Rules.parse(RULES))
        for text in texts[1:4]:
            assert client.publish(Rules.parse(text)) == 0
        assert client.close_day(DAY).code == 0
    assert served.stop() == 0
    with Engine(served.directory) as engine:
        engine.checkpoint()
        found = engine.rules_versions()
        assert engine.stats().checkpointed == engine.stats().entries
    running = serve(served.directory)
    with Client(running.target) as client:
        assert client.rules_versions() == found, "from the checkpoint alone"
        for text in texts[4:]:
            assert client.publish(Rules.parse(text)) == 0
        told = client.rules_versions()
    running.kill()
    with Engine(served.directory) as engine:
        assert engine.stats().checkpointed < engine.stats().entries
        assert engine.rules_versions() == told, "from the checkpoint and the journal's tail"
        assert told.versions[:4] == found.versions
        assert [one.business_date for one in told.versions] == [DAY] * 4 + [NEXT_DAY] * 3
        for number, text in enumerate(texts, 1):
            rules = engine.rules(number)
            assert (rules.code, rules.text, rules.version) == (0, text, told.versions[number - 1])
            assert rules.tables == Rules.parse(text).tables_json
        assert engine.rules() == rules
    assert auditor.audit(served.directory).problems == []


def test_both_ways_tell_the_same(data: Path, serve: Serve) -> None:
    with Engine(data) as engine:
        assert engine.publish(Rules.parse(with_discount(6))) == 0
        own = [engine.rules_versions(), engine.rules(), engine.rules(1), engine.rules(3)]
        other = [engine.rules_versions(9), engine.rules(1, programme=9)]
    with Client(serve(data).target) as client:
        assert [client.rules_versions(), client.rules(), client.rules(1), client.rules(3)] == own
    with Client(serve(data.with_name("empty")).target, programme=9) as client:
        assert [client.rules_versions(), client.rules(1)] == other
    first = RulesVersion(version=1, sequence=8, business_date=DAY)
    second = RulesVersion(version=2, sequence=9, business_date=DAY)
    assert own[0] == RulesVersions(0, (first, second))
    assert own[2] == PublishedRules(0, first, RULES, Rules.parse(RULES).tables_json)
    assert own[3] == PublishedRules(codes.Code.ORIGINAL_NOT_FOUND)
    assert other == [
        RulesVersions(codes.Code.TERMINAL_NOT_REGISTERED),
        PublishedRules(codes.Code.TERMINAL_NOT_REGISTERED),
    ]


# Between two swipes

AMOUNT = 100


def issued(engine: Engine) -> None:
    """A card with enough for many purchases."""
    engine.execute(rows.issue(CARD, product=1, terminal=11, business_date=DAY, trace=1))
    for trace in (2, 3):
        (answer,) = engine.execute(rows.top_up(CARD, 10_000_00, terminal=11, business_date=DAY, trace=trace))
        assert answer["code"] == 0


def in_force(versions: RulesVersions, sequence: int) -> int:
    """The version that a transaction with this sequence saw."""
    return sum(version.sequence < sequence for version in versions.versions)


def test_no_swipe_sees_half_a_version(chain: Engine, tmp_path: Path) -> None:
    """Versions come while batches are executed: each has its own discount, which tells who priced a swipe."""
    issued(chain)
    done = threading.Event()
    percents = [5]

    def publish() -> None:
        while not done.is_set():
            percent = (percents[-1] + 7) % 90 + 1
            assert chain.publish(Rules.parse(with_discount(percent)), version=len(percents) + 1) == 0
            percents.append(percent)

    publishing = threading.Thread(target=publish)
    publishing.start()
    futures: list[Future[rows.Answers]] = []
    while publishing.is_alive() and (len(percents) < 8 or len(futures) < 50):
        first = 1_000 + 20 * len(futures)
        traces = range(first, first + 20)
        futures.append(
            chain.submit(rows.purchase(CARD, AMOUNT, terminal=12, business_date=DAY, trace=traces))
        )
    answers = [answer for future in futures for answer in future.result()]
    done.set()
    publishing.join()
    versions = chain.rules_versions()
    assert len(versions.versions) == len(percents)
    seen = set()
    for answer in answers:
        assert answer["code"] == 0
        version = in_force(versions, int(answer["sequence"]))
        assert answer["discount"] == AMOUNT * percents[version - 1] // 100
        seen.add(version)
    assert len(seen) > 2, "versions came in the middle"
    chain.close()
    # Every entry names the version that was in force: the auditor looks.
    report = auditor.audit(tmp_path / "data")
    assert report.problems == []


def test_a_file_is_published_in_the_middle_of_a_stream(
    served_chain: Client, served: Served, file: Path
) -> None:
    served_chain.issue(CARD, 1)
    served_chain.top_up(CARD, 10_000_00)
    said: list[str] = []

    def requests() -> Iterator[Purchase]:
        for number in range(4_000):
            if number == 2_000:
                said.append(quick("rules", "publish", file, "--target", served.target).stdout)
            yield Purchase(terminal=11, business_date=DAY, card=CARD, amount=AMOUNT)

    answers = list(served_chain.transact(requests(), message_size=100))
    assert said == ["version 2 of programme 1 is published\n"]
    versions = served_chain.rules_versions()
    for answer in answers:
        assert answer.discount == {1: 5, 2: 6}[in_force(versions, answer.sequence)]
    assert {answer.discount for answer in answers} == {5, 6}
