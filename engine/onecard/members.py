"""Members: the persons who hold cards, and what is known of them.

All that is personal lies apart from the journal, which knows a member's id and nothing else: it can be
erased, and no book changes. Which cards a member holds is said by a holder transaction
(`rows.set_holder`, `Client.set_holder`). Numbers of members are the business's own.
"""

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from onecard import rows
from onecard.v1 import member_pb2


class RealName(IntEnum):
    """How far a member's identity is known."""

    ANONYMOUS = 0
    CLAIMED = 1
    """The member says so."""
    VERIFIED = 2
    """It was checked against a document."""


@dataclass(frozen=True, slots=True)
class Consent:
    """What a member said to a purpose."""

    given: bool
    date: datetime.date
    """Business date."""
    text: str = ""
    """Which text it was asked for with."""


@dataclass(frozen=True, slots=True)
class Member:
    """A person. Texts have at most 256 bytes; of tags, attributes and consents there are at most 64 each."""

    id: int
    """From 1."""
    enrolled: datetime.date
    """Business date of the enrolment."""
    name: str = field(default="", repr=False)
    phone: str = field(default="", repr=False)
    email: str = field(default="", repr=False)
    birthday: datetime.date | None = field(default=None, repr=False)
    """From 1900 on; None: not known."""
    real_name: RealName = RealName.ANONYMOUS
    tags: frozenset[str] = frozenset()
    """Words that segments are made with."""
    attributes: Mapping[str, str] = field(default_factory=dict, repr=False)
    consents: Mapping[str, Consent] = field(default_factory=dict, repr=False)
    """By purpose."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A member and the cards that it holds."""

    member: Member | None
    """None: there is no such member, or it was erased."""
    cards: tuple[str, ...]


def to_json(member: Member) -> str:
    """As the core reads it."""
    consents = {
        purpose: {"given": consent.given, "date": rows.days(consent.date), "text": consent.text}
        for purpose, consent in member.consents.items()
    }
    return json.dumps(
        {
            "id": member.id,
            "name": member.name,
            "phone": member.phone,
            "email": member.email,
            "birthday": _number(member.birthday),
            "real_name": member.real_name.name.capitalize(),
            "tags": sorted(member.tags),
            "attributes": dict(member.attributes),
            "consents": consents,
            "enrolled": rows.days(member.enrolled),
        }
    )


def from_json(text: str) -> Member:
    """As the core tells it."""
    found: dict[str, Any] = json.loads(text)
    consents = {
        purpose: Consent(consent["given"], rows.day(consent["date"]), consent["text"])
        for purpose, consent in found["consents"].items()
    }
    return Member(
        **found
        | {
            "birthday": _date(found["birthday"]),
            "real_name": RealName[found["real_name"].upper()],
            "tags": frozenset(found["tags"]),
            "consents": consents,
            "enrolled": rows.day(found["enrolled"]),
        }
    )


def to_message(member: Member) -> member_pb2.Member:
    """As the front reads it."""
    consents = {
        purpose: member_pb2.Consent(given=consent.given, date=_number(consent.date), text=consent.text)
        for purpose, consent in member.consents.items()
    }
    return member_pb2.Member(
        id=member.id,
        name=member.name,
        phone=member.phone,
        email=member.email,
        birthday=_number(member.birthday),
        real_name=member_pb2.RealName.ValueType(member.real_name),
        tags=sorted(member.tags),
        attributes=member.attributes,
        consents=consents,
        enrolled=_number(member.enrolled),
    )


def from_message(message: member_pb2.Member) -> Member:
    """As the front tells it."""
    consents = {
        purpose: Consent(consent.given, _date(consent.date) or datetime.date.min, consent.text)
        for purpose, consent in message.consents.items()
    }
    return Member(
        id=message.id,
        enrolled=_date(message.enrolled) or datetime.date.min,
        name=message.name,
        phone=message.phone,
        email=message.email,
        birthday=_date(message.birthday),
        real_name=RealName(message.real_name),
        tags=frozenset(message.tags),
        attributes=dict(message.attributes),
        consents=consents,
    )


def _number(date: datetime.date | None) -> int:
    return date.year * 10_000 + date.month * 100 + date.day if date else 0


def _date(number: int) -> datetime.date | None:
    return datetime.date(number // 10_000, number // 100 % 100, number % 100) if number else None
