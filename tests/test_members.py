"""Members: enrolled, found, updated and erased, in process and over gRPC; their cards stay when they are gone."""

import dataclasses
import datetime
from pathlib import Path

import pytest

from onecard import Client, Engine, rows
from onecard.members import Consent, Member, RealName

from .conftest import DAY

BIRTHDAY = datetime.date(1964, 2, 29)


def member(id: int, name: str = "Li Wei") -> Member:
    return Member(
        id=id,
        enrolled=DAY,
        name=name,
        phone="13800000000",
        email="li.wei@example.com",
        birthday=BIRTHDAY,
        tags=frozenset({"vip", "tea"}),
        attributes={"language": "zh"},
        consents={"messages": Consent(True, DAY, "v2")},
    )


def lives(side: Engine | Client) -> None:
    """The life of a member, on either side."""
    wei = member(7)
    assert [side.enrol(wei), side.enrol(wei), side.enrol(member(7, "Another"))] == [0, 0, 94]
    assert side.enrol(member(0)) == 30
    assert side.update_member(member(8)) == 25
    verified = dataclasses.replace(wei, real_name=RealName.VERIFIED, tags=frozenset({"tea"}))
    assert side.update_member(verified) == 0
    assert side.member(7).member == verified
    assert side.enrol(member(9, "王芳")) == 0
    assert [found.name for found in side.list_members()] == ["Li Wei", "王芳"]
    assert [found.id for found in side.list_members(tag="vip")] == [9]
    assert [found.id for found in side.list_members(after=7, limit=1)] == [9]
    assert side.erase_member(9) == 0
    assert side.erase_member(10) == 25
    assert side.member(9).member is None
    assert side.enrol(member(9)) == 94


def test_a_member_s_life_in_process(chain: Engine) -> None:
    lives(chain)


def test_a_member_s_life_over_grpc(served_chain: Client) -> None:
    lives(served_chain)


def test_a_member_holds_several_cards_also_when_erased(chain: Engine) -> None:
    chain.enrol(member(7))
    for trace, card in enumerate(["00012345", "0001234500012345"], 1):
        key = {"terminal": 11, "business_date": DAY}
        chain.execute(rows.issue(card, 1, trace=2 * trace, **key))
        holder = rows.with_items(rows.set_holder(card, trace=2 * trace + 1, **key), [[rows.member(7, True)]])
        assert chain.execute(holder)["code"][0] == 0
    assert chain.member(7).cards == ("00012345", "0001234500012345")
    chain.erase_member(7)
    assert chain.member(7) == dataclasses.replace(chain.member(7), member=None)
    assert len(chain.member(7).cards) == 2


def test_cards_of_a_member_over_grpc(served_chain: Client) -> None:
    served_chain.enrol(member(3))
    served_chain.issue("00012345", 1)
    assert served_chain.set_holder("00012345", 3).code == 0
    assert served_chain.member(3).cards == ("00012345",)


def test_nothing_personal_is_in_the_journal_or_in_what_is_printed(tmp_path: Path) -> None:
    with Engine(tmp_path / "data") as engine:
        engine.register_programme(1, "shops", DAY)
        assert engine.enrol(member(7)) == 0
        engine.checkpoint()
    for part in ("journal", "checkpoint"):
        assert b"li.wei@example.com" not in (tmp_path / "data" / part / "data.mdb").read_bytes()
    assert b"li.wei@example.com" in (tmp_path / "data" / "members" / "data.mdb").read_bytes()
    for secret in ("Li Wei", "13800000000", "li.wei", "1964"):
        assert secret not in repr(member(7))


def test_what_is_erased_leaves_the_file_when_it_is_opened_again(tmp_path: Path) -> None:
    for _ in range(2):
        with Engine(tmp_path / "data") as engine:
            engine.register_programme(1, "shops", DAY)
            engine.enrol(member(7))
            engine.erase_member(7)
    assert b"li.wei@example.com" not in (tmp_path / "data" / "members" / "data.mdb").read_bytes()


def test_an_unknown_programme_and_a_malformed_member_are_refused(chain: Engine) -> None:
    assert chain.enrol(member(1), programme=9) == 58
    assert chain.enrol(dataclasses.replace(member(1), name="x" * 257)) == 30
    with pytest.raises(ValueError, match="member: column"):
        chain._core.enrol(1, '{"id": "secret"}')
