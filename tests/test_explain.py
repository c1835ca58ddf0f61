"""Why a sale came to what it did: in Python, over gRPC, on the command line; and sales that are tried out."""

import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from onecard import Client, Engine, Rules, rows
from onecard.cli import app
from onecard.client import Authorise, Line, Purchase
from onecard.codes import Code
from onecard.explain import Condition, Explanation, Fate, Gift
from tests.conftest import DAY
from tests.test_rules import GOOD

CARD = "6200000000000001"
RULES = (
    GOOD.replace(
        'name = "standard"\n',
        'name = "standard"\ndiscount = "5%"\npoints_per_money = "1"\nrebate = "1%"\n',
    )
    + """
[[categories]]
id = 1
name = "fruit"
[[categories]]
id = 2
name = "fish"
[[discounts]]
id = 1
name = "fresh fish"
rate = "20%"
when = { categories = ["fish"] }
[[discounts]]
id = 2
name = "large"
value = "9.00"
when = { min_spend = "100.01" }
[[discounts]]
id = 3
name = "elsewhere"
value = "1.00"
when = { stores = [2] }
[[accruals]]
id = 1
name = "ten"
points = "10"
stacking = "add"
"""
)
SALE = {"amount": 10_000, "lines": (Line(2_000, 2), Line(8_000, 1))}


@pytest.fixture
def shop(engine: Engine) -> Engine:
    codes = [
        engine.register_programme(1, "one", DAY),
        engine.register_merchant(1, "first"),
        engine.register_store(1, 1, "here"),
        engine.register_store(2, 1, "there"),
        engine.register_terminal(11, 1),
        engine.publish(Rules.parse(RULES)),
    ]
    assert set(codes) == {Code.APPROVED}
    header: rows.Header = {"terminal": 11, "business_date": DAY, "trace": 1}
    made = rows.together(
        rows.issue(card=CARD, product=1, **header),
        rows.top_up(card=CARD, amount=50_000, **header | {"trace": 2}),
    )
    assert not engine.execute(made)["code"].any()
    return engine


@pytest.fixture
def client(shop: Engine) -> Iterator[Client]:
    server = shop.serve("127.0.0.1:0")
    with Client(server.address, terminal=11) as opened:
        yield opened
    server.stop(5.0)


def sale(trace: int = 3, *, dry_run: bool = False, amount: int = 10_000) -> rows.Requests:
    header: rows.Header = {"terminal": 11, "business_date": DAY}
    if not dry_run:
        header["trace"] = trace
    items = [rows.line(2_000, 2), rows.line(amount - 2_000, 1)]
    return rows.with_items(rows.purchase(card=CARD, amount=amount, dry_run=dry_run, **header), [items])


EXPECTED = [
    (Gift.DISCOUNT, 0, "", 400, Fate.COUNTS, Condition.NONE),
    (Gift.DISCOUNT, 1, "fresh fish", 400, Fate.COUNTS, Condition.NONE),
    (Gift.DISCOUNT, 2, "large", 900, Fate.MISSES, Condition.MIN_SPEND),
    (Gift.DISCOUNT, 3, "elsewhere", 100, Fate.MISSES, Condition.STORES),
    (Gift.POINTS, 0, "", 920_000, Fate.COUNTS, Condition.NONE),
    (Gift.POINTS, 1, "ten", 100_000, Fate.COUNTS, Condition.NONE),
    (Gift.REBATE, 0, "", 92, Fate.COUNTS, Condition.NONE),
]


def told(found: Explanation) -> list[tuple[Any, ...]]:
    return [(one.gift, one.id, one.name, one.gives, one.fate, one.missed) for one in found.verdicts]


def test_a_sale_is_explained_as_it_was_and_as_it_would_be(shop: Engine) -> None:
    before = shop.explain(sale(dry_run=True))
    [answer] = shop.execute(sale())
    after = shop.explain(int(answer["sequence"]))
    assert told(before) == told(after) == EXPECTED
    assert (after.counted(Gift.DISCOUNT), after.counted(Gift.POINTS)) == (
        int(answer["discount"]),
        int(answer["points_earned"]),
    )
    assert before.version == after.version
    assert after.version is not None
    assert after.version.version == 1
    assert before.answer is not None
    assert after.answer is not None
    assert (before.answer.sequence, after.answer.sequence) == (0, int(answer["sequence"]))
    assert before.answer.parts == after.answer.parts
    assert (before.answer.principal_balance, after.answer.principal_balance) == (40_800, 40_800)


def test_the_version_that_priced_it_explains_it(shop: Engine) -> None:
    [answer] = shop.execute(sale())
    assert shop.publish(Rules.parse(GOOD)) == Code.APPROVED
    assert told(shop.explain(int(answer["sequence"]))) == EXPECTED
    found = shop.explain(sale(dry_run=True))
    assert told(found) == [(Gift.POINTS, 0, "", 0, Fate.COUNTS, Condition.NONE)]
    assert found.version is not None
    assert found.version.version == 2


def test_two_versions_by_turns_are_explained_each_by_its_own(shop: Engine) -> None:
    [first] = shop.execute(sale())
    assert shop.publish(Rules.parse(GOOD)) == Code.APPROVED
    [second] = shop.execute(sale(4))
    wanted = {
        int(first["sequence"]): (1, EXPECTED),
        int(second["sequence"]): (2, [(Gift.POINTS, 0, "", 0, Fate.COUNTS, Condition.NONE)]),
    }
    for sequence in [*wanted, *reversed(wanted)] * 2:
        found = shop.explain(sequence)
        assert found.version is not None
        assert (found.version.version, told(found)) == wanted[sequence]


def test_what_is_no_sale_is_told_by_its_code(shop: Engine) -> None:
    codes = [shop.explain(sequence).code for sequence in (0, 1, 5, 7, 10**15)]
    assert codes == [25, 25, 25, 12, 25]
    assert shop.explain(7, programme=2).code == 58
    nobody = rows.purchase(card="62000099", amount=1, terminal=11, business_date=DAY, dry_run=True)
    found = shop.explain(nobody)
    assert (found.code, found.answer and found.answer.code) == (12, None)
    elsewhere = rows.purchase(card=CARD, amount=1, terminal=99, business_date=DAY, dry_run=True)
    assert shop.explain(elsewhere).code == 58
    with pytest.raises(ValueError, match="one sale, with the flag of a dry run"):
        shop.explain(sale())


def test_a_refused_sale_is_explained_without_points(shop: Engine) -> None:
    [answer] = shop.execute(sale(amount=90_000))
    found = shop.explain(int(answer["sequence"]))
    assert found.answer is not None
    assert found.answer.code == Code.INSUFFICIENT_FUNDS
    # Of fish 20%, of all else the product's 5%, which is more than its part of the 9.00.
    assert found.counted(Gift.DISCOUNT) == 400 + 4_400
    assert found.counted(Gift.POINTS) == 0


def test_it_is_the_same_over_grpc(shop: Engine, client: Client) -> None:
    header = {"terminal": 11, "business_date": DAY}
    tried = Purchase(card=CARD, amount=10_000, lines=SALE["lines"], **header)  # type: ignore[arg-type]
    assert client.explain(tried) == shop.explain(sale(dry_run=True))
    [answer] = shop.execute(sale())
    sequence = int(answer["sequence"])
    assert client.explain(sequence) == shop.explain(sequence)
    held = client.explain(Authorise(card=CARD, amount=100, **header))  # type: ignore[arg-type]
    assert (held.code, held.counted(Gift.DISCOUNT)) == (0, 5)
    assert client.explain(10**15).code == 25


@pytest.fixture
def command(shop: Engine, tmp_path: Path) -> Callable[..., Any]:
    shop.execute(sale())
    shop.close()

    def run(*words: str) -> Any:
        return CliRunner().invoke(app, ["explain", *words])

    return run


def test_the_command_line_explains_an_entry(command: Callable[..., Any], tmp_path: Path) -> None:
    found = command("9", str(tmp_path / "data"))
    assert found.exit_code == 0, found.output
    for words in (
        "discount 1, fresh fish",
        "counts",
        "no: too little was bought",
        "no: it was another store",
    ):
        assert words in found.output
    as_json = json.loads(command("9", str(tmp_path / "data"), "--json").output)
    assert [one["gives"] for one in as_json["verdicts"]] == [one[3] for one in EXPECTED]
    missing = command("99", str(tmp_path / "data"))
    assert missing.exit_code == 1
    assert "99: 25" in missing.output


def test_the_command_line_says_what_priced_a_capture(shop: Engine, tmp_path: Path) -> None:
    header: rows.Header = {"terminal": 11, "business_date": DAY}
    [held] = shop.execute(rows.authorise(card=CARD, amount=1_000, **header | {"trace": 3}))
    [capture] = shop.execute(rows.capture(amount=500, sequence=held["sequence"], **header | {"trace": 4}))
    shop.close()
    data = str(tmp_path / "data")

    def run(*words: str) -> Any:
        return CliRunner().invoke(app, ["explain", *words])

    found = run(str(capture["sequence"]), data)
    assert found.exit_code == 0, found.output
    command = shlex.join(["onecard", "explain", str(held["sequence"]), data])
    last = found.output.splitlines()[-1]
    assert last == f"entry {held['sequence']} priced it: {command} tells its discounts and points"
    assert json.loads(run(str(capture["sequence"]), data, "--json").output)["priced_by"] == held["sequence"]
    priced = run(str(held["sequence"]), data)
    assert "the product's discount" in priced.output
    assert "priced it" not in priced.output


def test_the_command_line_tries_a_sale_out(command: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "sale.jsonl"
    header = {"terminal": 11, "business_date": int(DAY.strftime("%Y%m%d"))}
    lines = [{"category": 2, "amount": 2_000}, {"category": 1, "amount": 8_000}]
    request = {"header": header, "card": CARD, "amount": 10_000, "lines": lines}
    file.write_text(json.dumps({"method": "Purchase", "request": request}))
    found = command(str(file), str(tmp_path / "data"))
    assert found.exit_code == 0, found.output
    assert "not posted" in found.output
    for text, says in (
        ('{"method": "TopUp", "request": {}}', "TopUp is no sale"),
        ("{}\n{}", "has 2 lines"),
        ("x", "this is no JSON"),
    ):
        file.write_text(text)
        bad = command(str(file), str(tmp_path / "data"))
        said = " ".join(bad.output.replace("│", " ").split())
        assert (bad.exit_code, says in said) == (2, True), bad.output


# Sales that are tried out


def test_a_dry_run_leaves_nothing_behind(shop: Engine) -> None:
    before, digest = shop.stats().entries, shop.state_digest()
    answers = shop.execute(sale(dry_run=True))
    assert (answers["code"][0], answers["sequence"][0], answers["discount"][0]) == (0, 0, 800)
    assert shop.execute(sale(dry_run=True, amount=90_000))["code"].tolist() == [51]
    assert (shop.stats().entries, shop.state_digest()) == (before, digest)
    [posted] = shop.execute(sale())
    for name in ("amount", "discount", "points_earned", "principal_balance", "points_balance"):
        assert posted[name] == answers[name][0]


def test_a_dry_run_has_no_key_and_no_pin(shop: Engine, client: Client) -> None:
    row = rows.purchase(card=CARD, amount=100, terminal=11, business_date=DAY, dry_run=True)
    row["trace"] = 9
    assert shop.execute(row)["code"].tolist() == [Code.FORMAT_ERROR]
    row["trace"] = 0
    assert shop.execute(rows.with_items(row, [[rows.pin("1234")]]))["code"].tolist() == [Code.FORMAT_ERROR]
    assert shop.execute(row)["code"].tolist() == [Code.APPROVED]
    with pytest.raises(TypeError, match="a dry run has no key"):
        rows.purchase(card=CARD, amount=1, terminal=11, business_date=DAY, trace=1, dry_run=True)
    assert client.purchase(CARD, 100, business_date=DAY, dry_run=True).sequence == 0
    with pytest.raises(ValueError, match="a dry run has no key"):
        client.purchase(CARD, 100, business_date=DAY, trace=5, dry_run=True)
