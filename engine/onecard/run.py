"""Requests from a file of JSON lines, and their answers as JSON lines.

A line is one envelope, `{"method": "Purchase", "request": {...}}`: the name of a method of any service,
and its request in the JSON form of protobuf, with the names of the protos. Blank lines and lines that begin
with # do not count. In a PublishRules, `tables` may also be written as an object instead of a text.

Each request is answered by one line, in order: `{"line": 7, "method": "Purchase", "response": {...}}`, or
with `error` in place of `response` if the line is malformed. A code of 0 is written out, and a number of 128
bits is one decimal text. Lines are sent one by one, each when the one before is answered; a file that is run
again posts nothing twice, because the keys are in it.

Invariant: no error shows a PIN.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import json_format, message_factory
from google.protobuf.message import Message

from onecard import codes
from onecard.client import CallFailed, Client
from onecard.messages import int_of
from onecard.v1 import admin_pb2, feed_pb2, member_pb2, terminal_pb2

# What the server says of a request that will be no better next time.
_MALFORMED = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.OUT_OF_RANGE,
)


def _methods() -> dict[str, type[Message]]:
    services = (
        terminal_pb2.DESCRIPTOR.services_by_name["TerminalService"],
        admin_pb2.DESCRIPTOR.services_by_name["AdminService"],
        member_pb2.DESCRIPTOR.services_by_name["MemberService"],
        feed_pb2.DESCRIPTOR.services_by_name["FeedService"],
    )
    return {
        method.name: message_factory.GetMessageClass(method.input_type)
        for service in services
        for method in service.methods
    }


METHODS = _methods()
"""Class of the request of every method, by the method's name."""


class Malformed(Exception):
    """A line that is no request: the message says why."""


@dataclass(slots=True)
class Tally:
    """What became of a file's lines."""

    answered: int = 0
    refused: int = 0
    """Of these, answered with a code other than 00 and 10."""
    malformed: int = 0
    stopped: bool = False
    """A line stopped the run, as it was asked to."""


def read(text: str) -> tuple[str, Message]:
    """Method and request of a line; Malformed says what is wrong with it."""
    try:
        text.encode()
        envelope = json.loads(text)
    except UnicodeEncodeError:
        raise Malformed("this is no UTF-8") from None
    except ValueError as error:
        raise Malformed(f"this is no JSON: {error}") from None
    if not isinstance(envelope, dict) or set(envelope) != {"method", "request"}:
        raise Malformed('write {"method": NAME, "request": {...}} and nothing else')
    method, request = envelope["method"], envelope["request"]
    if not isinstance(method, str) or method not in METHODS:
        raise Malformed(f"method: there is no {method!r}; there are {', '.join(METHODS)}")
    if not isinstance(request, dict):
        raise Malformed("request: write an object, {...}")
    if method == "PublishRules" and isinstance(request.get("tables"), dict):
        request = request | {"tables": json.dumps(request["tables"])}
    try:
        return method, json_format.ParseDict(request, METHODS[method]())
    except json_format.ParseError as error:
        raise Malformed(_without_pins(str(error))) from None
    except ValueError:
        raise Malformed("a text has characters that are no UTF-8") from None


def _without_pins(text: str) -> str:
    """What protobuf says of a field, in one line, unless that may have a PIN in it."""
    if "pin field" in text.lower():
        return 'a PIN is text of 4 to 12 digits, like "0042"'
    return " ".join(text.split())


def shown(response: Message) -> dict[str, Any]:
    """A response as JSON has it; a code of 0 is written out, because 00 is what one looks for."""
    found = json_format.MessageToDict(response, preserving_proto_field_name=True)
    _whole(response, found)
    fields = response.DESCRIPTOR.fields_by_name
    if "code" in fields:
        found = {"code": 0} | found
    if "answer" in fields:
        found["answer"] = {"code": 0} | found.get("answer", {})
    if "answers" in fields:
        found["answers"] = [{"code": 0} | answer for answer in found.get("answers", [])]
    return found


def _whole(message: Any, found: dict[str, Any]) -> None:
    """Puts each number of 128 bits, which is a message of two halves, into one text, at any depth."""
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        if field.message_type.name == "Int128":
            found[field.name] = str(int_of(value))
        elif isinstance(value, Message):
            _whole(value, found[field.name])
        else:
            for one, of in zip(value, found[field.name], strict=True):
                _whole(one, of)


def codes_of(response: Any) -> list[int]:
    """Codes of all that a response answers."""
    fields = response.DESCRIPTOR.fields_by_name
    if "codes" in fields and fields["codes"].type == fields["codes"].TYPE_UINT32:
        return list(response.codes)
    if "answers" in fields:
        return [answer.code for answer in response.answers]
    if "code" in fields:
        return [response.code]
    return [response.answer.code] if "answer" in fields else []


def requests(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Number and text of the lines that count."""
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if text and not text.startswith("#"):
            yield number, text


def run(
    lines: Iterable[str],
    client: Client,
    write: Callable[[str], object],
    complain: Callable[[int, str], object],
    *,
    stop_on_refusal: bool = False,
    stop_on_malformed: bool = False,
) -> Tally:
    """Send the requests of lines and write their answers.

    `complain` is told the number of a malformed line, and why it is. What is broken comes out as it is:
    `onecard.client.CallFailed`, with the number of the line in its notes.
    """
    tally = Tally()
    for number, text in requests(lines):
        answer: dict[str, Any] = {"line": number}
        refused = malformed = False
        try:
            method, message = read(text)
            response = _called(client, method, message, number)
            answer |= {"method": method, "response": shown(response)}
            tally.answered += 1
            posted = (codes.Code.APPROVED, codes.Code.PARTLY_APPROVED)
            refused = any(code not in posted for code in codes_of(response))
            tally.refused += refused
        except Malformed as error:
            answer |= {"error": str(error)}
            tally.malformed += 1
            malformed = True
            complain(number, str(error))
        write(json.dumps(answer, ensure_ascii=False))
        if (refused and stop_on_refusal) or (malformed and stop_on_malformed):
            tally.stopped = True
            break
    return tally


def _called(client: Client, method: str, message: Message, number: int) -> Any:
    try:
        return client.call(method, message)
    except CallFailed as error:
        cause = error.__cause__
        if isinstance(cause, grpc.RpcError) and cause.code() in _MALFORMED:
            raise Malformed(cause.details() or cause.code().name) from None
        error.add_note(f"it was line {number}; run the file again: what was posted is not posted twice")
        raise
