"""Batches: the rows' layout, what builders put where, and that nothing is bent on its way in."""

import datetime
import uuid

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onecard import _core, codes, rows

DAY = datetime.date(2026, 3, 2)
NUMBER = 20514
KEY: rows.Header = {"terminal": 11, "business_date": DAY, "trace": 1}


def test_rows_are_as_long_as_the_core_reads_them() -> None:
    assert rows.REQUEST.itemsize == _core.REQUEST_SIZE == 104
    assert rows.ANSWER.itemsize == _core.ANSWER_SIZE == 120
    assert rows.ITEM.itemsize == _core.ITEM_SIZE == 32
    assert rows.PART.itemsize == _core.PART_SIZE == 32


def test_fields_stand_where_the_core_reads_them() -> None:
    fields = rows.REQUEST.fields
    assert fields is not None
    offsets = {name: fields[name][1] for name in ("programme", "local_time", "card", "terminal", "id_hi")}
    assert offsets == {"programme": 4, "local_time": 12, "card": 16, "terminal": 32, "id_hi": 40}
    assert [fields[name][1] for name in ("original", "original_date", "expires", "status")] == [
        56,
        88,
        92,
        96,
    ]


def test_a_row_carries_what_it_was_built_from() -> None:
    (row,) = rows.purchase(
        card="00012345",
        amount=12_345,
        use_points=True,
        terminal=11,
        business_date=DAY,
        trace=1,
        channel=7,
        local_time=3_600,
    )
    named = {name: row[name].item() for name in rows.REQUEST.names or () if name != "reserved" and row[name]}
    assert named == {
        "kind": codes.Kind.PURCHASE,
        "flags": 1,
        "channel": 7,
        "card_digits": 8,
        "programme": 1,
        "business_date": NUMBER,
        "local_time": 3_600,
        "card": 12_345,
        "amount": 12_345,
        "terminal": 11,
        "trace": 1,
    }
    assert not row["reserved"]


def test_every_kind_has_a_builder() -> None:
    built = [
        rows.issue(card="12345678", product=3, expires=DAY, **KEY),
        rows.top_up(card="12345678", amount=1, **KEY),
        rows.purchase(card="12345678", amount=1, **KEY),
        rows.refund(sequence=9, amount=1, **KEY),
        rows.reverse(original_date=DAY, original_terminal=12, original_trace=5, **KEY),
        rows.balance(card="12345678", terminal=11),
        rows.set_status(card="12345678", status=codes.Status.FROZEN, **KEY),
        rows.fund(amount=1, **KEY),
        rows.grant(card="12345678", bundle=7, count=2, paid_by_card=True, **KEY),
        rows.authorise(card="12345678", amount=1, accept_partial=True, expires=DAY, **KEY),
        rows.capture(sequence=9, amount=1, final=True, **KEY),
        rows.void(sequence=9, **KEY),
        rows.replace(card="12345678", status=codes.Status.LOST, **KEY),
        rows.transfer(card="12345678", purse=codes.Purse.POINTS, amount=4, **KEY),
        rows.set_holder(card="12345678", **KEY),
        rows.bind(card="12345678", remove=True, **KEY),
        rows.set_pin(card=None, by_operator=True, **KEY),
        rows.close_card(card="12345678", **KEY),
        rows.issue_codes(unit=16, count=5, expires=DAY, **KEY),
        rows.bulk_top_up(amount=10, **KEY),
        rows.set_tier(card="12345678", tier=1, **KEY),
    ]
    assert [int(batch["kind"][0]) for batch in built] == list(codes.Kind)
    issue, _, _, refund, reverse, balance, status, _, *more = (batch[0] for batch in built)
    grant, authorise, capture, _, replace, transfer, _, bind, set_pin, _, issue_codes, bulk, tier = more
    assert (grant["product"], grant["amount"], grant["flags"]) == (7, 2, rows.FLAG_FROM_CARD)
    assert (authorise["flags"], authorise["expires"]) == (rows.FLAG_ACCEPT_PARTIAL, NUMBER)
    assert (capture["original"], capture["flags"]) == (9, rows.FLAG_FINAL)
    assert (replace["status"], transfer["product"], transfer["amount"]) == (3, 3, 4)
    assert (bind["flags"], set_pin["flags"]) == (rows.FLAG_UNBIND, rows.FLAG_BY_OPERATOR)
    assert (set_pin["card"], set_pin["card_digits"]) == (0, 0)
    assert (issue_codes["product"], issue_codes["amount"], bulk["amount"], tier["product"]) == (16, 5, 10, 1)
    assert (issue["product"], issue["expires"]) == (3, NUMBER)
    assert refund["original"] == 9
    assert (reverse["original_date"], reverse["original_terminal"], reverse["original_trace"]) == (
        NUMBER,
        12,
        5,
    )
    assert (balance["trace"], balance["business_date"], balance["local_time"]) == (0, 0, 0)
    assert status["status"] == 2


def test_every_item_is_as_the_page_says() -> None:
    text = _core.code_text(20, 7, 2**63 + 5)
    made = [
        rows.coupon(16, 2),
        rows.code(text.lower()),
        rows.pass_(17),
        rows.card("00012345", 30),
        rows.pin("0042"),
        rows.cash(500),
        rows.staff("90000001"),
        rows.alias(1, 2**127 + 3),
        rows.number("0000000000000000009"),
        rows.member(2**64 - 1, True),
        rows.new_pin("000000000001"),
    ]
    fields = ("kind", "digits", "unit", "number", "amount", "high", "low")
    assert [tuple(int(item[0][name]) for name in fields) for item in made] == [
        (1, 0, 16, 0, 2, 0, 0),
        (2, 0, 20, 0, 0, 2**63 + 5, 7),
        (3, 0, 17, 0, 1, 0, 0),
        (4, 8, 0, 0, 30, 0, 12_345),
        (5, 4, 0, 0, 0, 0, 42),
        (6, 0, 0, 0, 500, 0, 0),
        (7, 8, 0, 0, 0, 0, 90_000_001),
        (8, 1, 0, 0, 0, 2**63, 3),
        (9, 19, 0, 0, 0, 0, 9),
        (10, 0, 0, 0, 1, 0, 2**64 - 1),
        (11, 12, 0, 0, 0, 0, 1),
    ]


@pytest.mark.parametrize("digits", ["", "123", "1234567890123", "12a4", "１２３４", " 1234"])
def test_a_bad_pin_is_refused_and_not_shown(digits: str) -> None:
    with pytest.raises(ValueError, match="4 to 12 digits") as caught:
        rows.pin(digits)
    assert not digits or digits not in str(caught.value)


def test_what_is_no_code_is_refused() -> None:
    with pytest.raises(ValueError, match="26 letters and digits"):
        rows.code("ABC")


def test_items_go_to_their_rows() -> None:
    batch = rows.purchase(
        card=["12345678"] * 3, amount=[1, 2, 3], terminal=1, business_date=DAY, trace=[1, 2, 3]
    )
    asked = rows.with_items(
        batch, [[rows.coupon(16)], [], [rows.card(["20000001", "20000002"]), rows.pin("1234")]]
    )
    assert asked.rows["items"].tolist() == [1, 0, 3]
    assert asked.rows["first_item"].tolist() == [0, 0, 1]
    assert asked.items["kind"].tolist() == [1, 4, 4, 5]
    assert batch["items"].tolist() == [0, 0, 0], "the batch itself is left alone"
    both = rows.together(asked, rows.fund(amount=1, **KEY), asked[2:])
    assert both.rows["kind"].tolist() == [3, 3, 3, 8, 3]
    assert both.rows["first_item"].tolist() == [0, 0, 1, 0, 5]
    assert both.items[5:]["kind"].tolist() == [4, 4, 5]
    with pytest.raises(ValueError, match="3 rows need as many lists of items, not 1"):
        rows.with_items(batch, [[]])


def test_answers_keep_their_parts() -> None:
    found = np.zeros(3, rows.ANSWER)
    found["parts"], found["first_part"] = [1, 0, 2], [0, 0, 1]
    parts = np.zeros(3, rows.PART)
    parts["amount"] = [1, 2, 3]
    answers = rows.Answers(found, parts)
    assert answers.parts_of(2)["amount"].tolist() == [2, 3]
    assert answers.parts_of(answers[0])["amount"].tolist() == [1]
    assert len(answers.parts_of(1)) == 0
    assert answers[1:].parts_of(1)["amount"].tolist() == [2, 3]
    assert type(answers["code"]) is np.ndarray
    twice = rows.joined([answers, answers])
    assert [twice.parts_of(at)["amount"].tolist() for at in range(6)] == [[1], [], [2, 3]] * 2
    assert len(rows.joined([])) == 0
    with pytest.raises(ValueError, match=r"rows\.joined"):
        rows.Answers(found).parts_of(0)


def test_columns_are_spread_over_rows() -> None:
    batch = rows.top_up(
        card=["12345678", "00000000000000001", "9999999999999999999"],
        amount=[1, 2, 3],
        terminal=np.arange(3, dtype=np.uint32),
        business_date=np.array(["2026-03-02", "2026-03-03", "2026-03-04"], "datetime64[D]"),
        id=rows.random_ids(3),
    )
    assert batch["card"].tolist() == [12_345_678, 1, 9_999_999_999_999_999_999]
    assert batch["card_digits"].tolist() == [8, 17, 19]
    assert batch["business_date"].tolist() == [NUMBER, NUMBER + 1, NUMBER + 2]
    assert batch["amount"].tolist() == [1, 2, 3]
    assert len(set(zip(batch["id_hi"].tolist(), batch["id_lo"].tolist(), strict=True))) == 3
    assert batch["local_time"].tolist() == [rows.NOON] * 3


def test_no_rows_are_rows_too() -> None:
    assert len(rows.top_up(card=(np.array([], np.uint64), np.array([], np.uint8)), amount=[], **KEY)) == 0


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="broadcast"):
        rows.top_up(card="12345678", amount=[1, 2], terminal=[1, 2, 3], business_date=DAY, trace=1)
    with pytest.raises(ValueError, match="one dimension"):
        rows.top_up(card="12345678", amount=[[1, 2]], **KEY)


@pytest.mark.parametrize(
    ("amount", "error"),
    [(1.5, TypeError), (2**63, OverflowError), (-(2**63) - 1, TypeError), ("1", TypeError)],
)
def test_numbers_that_do_not_fit_are_refused(amount: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        rows.top_up(card="12345678", amount=amount, **KEY)  # type: ignore[arg-type]


def test_a_negative_trace_is_refused_not_wrapped() -> None:
    with pytest.raises(OverflowError, match="trace: values must lie within 0 to 4294967295"):
        rows.top_up(card="12345678", amount=1, terminal=1, business_date=DAY, trace=-1)


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ({"terminal": 1, "trace": 1}, "terminal and a business_date"),
        ({"business_date": DAY, "trace": 1}, "terminal and a business_date"),
        ({"terminal": 1, "business_date": DAY}, "either trace or id"),
        ({"terminal": 1, "business_date": DAY, "trace": 1, "id": 1}, "either trace or id"),
    ],
)
def test_a_request_has_one_key(header: dict[str, object], says: str) -> None:
    with pytest.raises(TypeError, match=says):
        rows.top_up(card="12345678", amount=1, **header)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ({}, "either by sequence or by its key"),
        ({"sequence": 1, "original_date": DAY}, "either by sequence or by its key"),
        ({"original_date": DAY}, "either original_trace"),
        ({"original_date": DAY, "original_trace": 1, "original_id": 1}, "either original_trace"),
        ({"original_date": DAY, "original_trace": 1}, "together with original_terminal"),
    ],
)
def test_an_original_has_one_name(names: dict[str, object], says: str) -> None:
    with pytest.raises(TypeError, match=says):
        rows.reverse(**KEY, **names)  # type: ignore[arg-type]


@given(st.from_regex(r"[0-9]{8,19}", fullmatch=True))
def test_a_card_number_survives(text: str) -> None:
    assert rows.card_text(*rows.card_number(text)) == text
    values, digits = rows.card_columns([text, "87654321"])
    assert (values[0], digits[0]) == rows.card_number(text)
    assert rows.card_columns(np.array([text.encode()]))[0][0] == values[0]


@pytest.mark.parametrize(
    "text", ["", "1234567", "1" * 20, "1234567a", "1234 5678", "-12345678", "１２３４５６７８", "²²²²²²²²"]
)
def test_a_bad_card_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="card number"):
        rows.card_number(text)
    with pytest.raises(ValueError, match="card number"):
        rows.card_columns(["12345678", text])


def test_card_numbers_are_text() -> None:
    with pytest.raises(TypeError, match="leading zeros count"):
        rows.card_columns(np.array([12_345_678]))


@given(st.dates(datetime.date(1900, 1, 1), datetime.date(2200, 1, 1)))
def test_a_date_survives(date: datetime.date) -> None:
    number = rows.days(date)
    assert rows.day(number) == date
    assert rows.days(np.datetime64(date)) == rows.days(number) == number
    assert rows.days_column([date, date]).tolist() == [number, number]


def test_a_moment_is_no_date() -> None:
    with pytest.raises(TypeError, match="not a moment"):
        rows.days(datetime.datetime(2026, 3, 2, 12, 0))


@given(st.integers(1, 2**128 - 1))
def test_an_id_survives(number: int) -> None:
    high, low = rows.id_parts(number)
    assert (high << 64) + low == number
    assert rows.id_parts(number.to_bytes(16, "big")) == rows.id_parts(uuid.UUID(int=number)) == (high, low)
    (row,) = rows.fund(amount=1, terminal=1, business_date=DAY, id=number)
    assert (row["id_hi"], row["id_lo"]) == (high, low)


@pytest.mark.parametrize("key", [0, -1, 2**128, b"", b"1" * 15, bytes(16)])
def test_a_bad_id_is_refused(key: int | bytes) -> None:
    with pytest.raises(ValueError, match="an id"):
        rows.id_parts(key)


def test_random_ids_differ() -> None:
    high, low = rows.random_ids(10_000)
    assert len(np.unique(np.stack([high, low]), axis=1).T) == 10_000
    assert (low != 0).all()


def test_codes_have_words() -> None:
    assert codes.text(51) == "insufficient funds"
    assert codes.text(77) == "code 77"
    assert (codes.reason_text(codes.Reason.FORGED), codes.reason_text(77)) == ("forged", "reason 77")
    words = [codes.text(code) for code in codes.Code]
    assert len(set(words)) == len(words)
    reasons = [codes.reason_text(reason) for reason in codes.Reason if reason]
    assert len(set(reasons)) == len(reasons)
