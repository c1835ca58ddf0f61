"""The worker: a process that evaluates rules in Python for an engine, which it talks to over standard input.

It is told which rules to have (`setup`), says which it has, and then answers frames until the engine is
gone. A frame is a group of sales, column after column, and the places of the rules that are asked; each rule
is answered as soon as it has said its columns. What a rule prints goes to standard error.

    frame:  bytes:u32 sales:u32 programme:u16 rules:u16 open_date:i32 column* place:u16*
    answer: 0 fields:u8 0:u16 sales:u32 [discount:u64*] [points:u64*] [refuse:u8*] | 1 0 0:u16 bytes:u32 text

Integers are little endian. Discounts and factors of points are over 10^12; bits 0 to 2 of *fields* say which
of the three columns follow.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import struct
import sys
import traceback
from typing import Any

import numpy as np

from onecard.python_rules import FACTOR_MAX, Advice, Rule, Sales, flags, rates

HEAD = struct.Struct("<IIHHi")
ANSWER = struct.Struct("<BBHI")
OFF, FACTOR, REFUSES = 1, 2, 4
ERROR_MAX = 1_000
"""Most characters of an error that are told."""


def main() -> None:
    """Serve the engine on the other end of standard input."""
    # Whoever interrupts the engine in a terminal interrupts its worker, too: that ends when the engine does.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # LMDB leaves its data files open for whoever is started: they are none of the worker's business.
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.dup2(2, 1)
    gone = contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError)
    with gone, socket.socket(fileno=os.dup(0)) as engine:
        talk(engine)


def talk(engine: socket.socket) -> None:
    """Hear which rules to have, say which there are, and evaluate them until the engine is gone."""
    told, columns = (json.loads(_read(engine, *struct.unpack("<I", _read(engine, 4)))) for _ in range(2))
    try:
        rules = load(told)
    except BaseException as error:
        traceback.print_exc()
        _send_text(engine, {"error": f"the Python rules cannot be loaded: {type(error).__name__}: {error}"})
        return
    names = ("id", "name", "version", "timeout_ms")
    _send_text(engine, {"rules": [{name: getattr(rule, name) for name in names} for rule in rules]})
    # What was imported stays: it is not looked through again and again while sales wait.
    gc.freeze()
    serve(engine, rules, [(name, np.dtype(kind)) for name, kind in columns])


def load(told: dict[str, Any]) -> list[Rule]:
    """The rules that the engine was opened with; two of one id are an error."""
    sys.path[:] = told["path"]
    rules: dict[int, Rule] = {}
    for one in told["rules"]:
        for rule in _rules_of(one):
            if rules.setdefault(rule.id, rule) is not rule:
                raise ValueError(f"two rules have the id {rule.id}: {rules[rule.id].name} and {rule.name}")
    return list(rules.values())


def _rules_of(one: dict[str, str]) -> list[Rule]:
    if "file" in one:
        names = runpy.run_path(one["file"], run_name="onecard_python_rules")
    else:
        names = vars(importlib.import_module(one["module"]))
    found = [value for value in names.values() if isinstance(value, Rule)]
    if "function" in one:
        found = [rule for rule in found if rule.function.__qualname__ == one["function"]]
    if not found:
        where = one.get("module") or one["file"]
        raise ValueError(
            f"{where} has no rule{' ' + one['function'] if 'function' in one else ''} at its top"
        )
    # Each once, under however many names it stands.
    return list({id(rule): rule for rule in found}.values())


def serve(engine: socket.socket, rules: list[Rule], columns: list[tuple[str, np.dtype[Any]]]) -> None:
    """Answer frame after frame; EOFError when the engine is gone."""
    room = bytearray()
    while True:
        size, count, programme, asked, open_date = HEAD.unpack(_read(engine, HEAD.size))
        if len(room) < size:
            room = bytearray(size)
        frame = memoryview(room)[:size]
        _fill(engine, frame)
        sales, places = _sales(frame, count, programme, open_date, columns)
        for place in np.frombuffer(frame, "<u2", asked, places).tolist():
            engine.sendall(answer(rules[place], sales))


def _sales(
    frame: memoryview, count: int, programme: int, open_date: int, columns: list[tuple[str, np.dtype[Any]]]
) -> tuple[Sales, int]:
    """The columns of a frame where they lie, and where they end."""
    seen, at = {}, 0
    for name, kind in columns:
        seen[name] = np.frombuffer(frame, kind, count, at)
        seen[name].flags.writeable = False
        at += count * kind.itemsize
    return Sales(programme, open_date, **seen), at


def answer(rule: Rule, sales: Sales) -> bytes:
    """What a rule says of a group, or the error that it raised, as bytes."""
    try:
        return _packed(rule(sales), len(sales))
    except Exception as error:
        text = f"{type(error).__name__}: {error}"[:ERROR_MAX].encode()
        return ANSWER.pack(1, 0, 0, len(text)) + text


def _packed(said: Advice | None, sales: int) -> bytes:
    if said is None:
        said = Advice()
    if not isinstance(said, Advice):
        raise TypeError(f"a rule returns Advice or None, not {type(said).__name__}")
    columns = (
        (OFF, rates(said.discount, sales, 1, "discount")),
        (FACTOR, rates(said.points, sales, FACTOR_MAX, "points")),
        (REFUSES, flags(said.refuse, sales, "refuse")),
    )
    there = [(bit, column) for bit, column in columns if column is not None]
    head = ANSWER.pack(0, sum(bit for bit, _ in there), 0, sales)
    return b"".join([head, *(column.tobytes() for _, column in there)])


def _read(engine: socket.socket, size: int) -> bytes:
    room = bytearray(size)
    _fill(engine, memoryview(room))
    return bytes(room)


def _fill(engine: socket.socket, room: memoryview) -> None:
    while room:
        read = engine.recv_into(room)
        if read == 0:
            raise EOFError("the engine is gone")
        room = room[read:]


def _send_text(engine: socket.socket, what: dict[str, Any]) -> None:
    text = json.dumps(what).encode()
    engine.sendall(struct.pack("<I", len(text)) + text)


if __name__ == "__main__":
    main()
