"""One table of all that was measured: the figure, what stands beside it, and their ratio."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rich.table import Table

Found = Mapping[str, Any]

# Where the output is no terminal, and in a narrow one: lines that are broken by the terminal stay readable.
WIDTH = 150
# More of the processors' time than this tells of the neighbours.
STOLEN = 0.05


class Line(NamedTuple):
    """A line of the table; the texts are ready to print."""

    figure: str
    value: str
    beside: str = ""
    beside_value: str = ""
    ratio: str = ""


def table(found: Sequence[Found], machine: Mapping[str, str]) -> Table:
    """The table, with the machine as its caption."""
    shown = Table(
        title="onecard, measured", caption=", ".join(f"{key} {text}" for key, text in machine.items())
    )
    for name in ("", "figure"):
        shown.add_column(name)
    shown.add_column("median (least to most)", justify="right")
    shown.add_column("peer or limit")
    shown.add_column("its figure", justify="right")
    shown.add_column("ratio", justify="right")
    for one in found:
        for number, line in enumerate(lines(one)):
            shown.add_row("" if number else str(one["id"]), *line)
        if one["stolen_time"] >= STOLEN:
            shown.add_row(
                "", f"{one['stolen_time']:.0%} of the processors' time was stolen by the host: measure again"
            )
        shown.add_section()
    return shown


def lines(found: Found) -> list[Line]:
    """The lines of one workload."""
    return list(_LINES[found["id"]](found))


def _w1(found: Found) -> Iterator[Line]:
    cards = f"{found['cards']:,} cards, {found['draw']}, keys {found['keys']}"
    ratios = found["ratios"]
    limit = _spread(found, "limit_swipes_per_s")
    yield Line(
        f"swipes/s, {cards}",
        _spread(found, "swipes_per_s"),
        "its journal, bare LMDB",
        limit,
        _ratio(ratios["limit"]),
    )
    for peer in found["peers"]:
        if peer["absent"]:
            yield Line("", "", str(peer["name"]), peer["absent"])
        else:
            beside = f"{peer['name']}: {peer['setting']}"
            yield Line("", "", beside, _spread(peer, "swipes_per_s"), _ratio(ratios[peer["id"]]))
    yield Line("burst, swipes/s", _number(found["burst_swipes_per_s"]))
    for keys in ("traces", "ids"):
        yield Line(
            f"bytes of journal a swipe, keys {keys}", _number(found[f"journal_bytes_per_swipe_{keys}"])
        )
    yield Line("bytes of memory a card", _number(found["memory_bytes_per_card"]))
    yield Line(f"tail at most, entries ({found['passes']} passes)", _number(found["tail_max"]))


def _w1_card(found: Found) -> Iterator[Line]:
    figure = f"purchases/s with two coupons, a pass, three purses, {found['cards']:,} cards"
    plain = _spread(found, "plain_swipes_per_s")
    yield Line(
        figure, _spread(found, "swipes_per_s"), "plain swipes", plain, _ratio(found["ratios"]["plain"])
    )


def _w1_demo(found: Found) -> Iterator[Line]:
    plain, ratios = _spread(found, "plain_swipes_per_s"), found["ratios"]
    figure = f"swipes/s by the demo's rules, {found['lines_per_purchase']} lines, {found['cards']:,} cards"
    yield Line(figure, _spread(found, "swipes_per_s"), "plain swipes", plain, _ratio(ratios["plain"]))
    without = _spread(found, "without_lines_swipes_per_s")
    yield Line("without lines", without, "plain swipes", plain, _ratio(ratios["without_lines"]))


def _w1_rules(found: Found) -> Iterator[Line]:
    rates = found["swipes_per_s"]
    few = next(iter(rates))
    for size, rate in rates.items():
        ratio = _ratio(found["ratios"][f"rules_{size}"]) if size != few else ""
        yield Line(
            f"swipes/s with {size} rules, {found['cards']:,} cards",
            _number(rate),
            f"with {few} rules",
            "",
            ratio,
        )
    yield Line("seconds to compile the largest file", _number(found["compile_s"]))
    yield Line("MiB that it takes", _number(found["compile_mib"]))


def _w2(found: Found) -> Iterator[Line]:
    empty = _number(found["empty_handler_calls_per_s"])
    ratio = _ratio(found["ratios"]["empty_handler"])
    figure = f"calls/s, {found['in_flight']} in flight"
    yield Line(figure, _spread(found, "calls_per_s"), "empty handler, same server", empty, ratio)
    cost, floor = (sum(found[name].values()) for name in ("cpu_us_per_call", "empty_handler_cpu_us_per_call"))
    floor_cost = _number(floor)
    yield Line(
        "processor time of a call, us", _number(cost), "empty handler", floor_cost, _ratio(cost / floor)
    )
    for name, label in (("p50_ms", "p50"), ("p99_ms", "p99"), ("p999_ms", "p99.9")):
        yield Line(f"{label} at {found['open_loop_calls_per_s']:,} calls/s, ms", _spread(found, name))
    yield Line("p50 of one in flight, ms", _number(found["one_in_flight_p50_ms"]))


def _w3(found: Found) -> Iterator[Line]:
    yield Line("swipes/s, messages of 1,000", _spread(found, "swipes_per_s"))
    for size, rate in list(found["swipes_per_s_by_message"].items())[:-1]:
        yield Line(f"swipes/s, messages of {size}", _number(rate))


def _w4(found: Found) -> Iterator[Line]:
    for name in found:
        if name.startswith("seconds_") and not name.endswith(("_min", "_max")):
            yield Line(f"seconds, {name.removeprefix('seconds_')} purses", _spread(found, name))
    for name, why in found["missing"].items():
        yield Line(f"seconds, {name.removeprefix('seconds_')} purses", "-", why)


def _w5(found: Found) -> Iterator[Line]:
    yield Line(f"seconds to the first answer, {found['cards']:,} cards", _spread(found, "first_answer_s"))
    rate = f"{found['later_swipes_per_s']:,} swipes/s"
    missed = found["full_rate_s"] is None
    yield Line(
        f"seconds to {rate}",
        "not reached by all: take more --seconds" if missed else _spread(found, "full_rate_s"),
    )
    yield Line("tail that was replayed, entries at most", _number(found["tail"]))
    yield Line("opened again at once, seconds", _spread(found, "opened_again_s"))


def _w6(found: Found) -> Iterator[Line]:
    yield Line(f"seconds, a day of {found['entries']:,} entries", _spread(found, "seconds"))


def _w7(found: Found) -> Iterator[Line]:
    yield Line(f"seconds, {found['transactions']:,} transactions", _spread(found, "seconds"))


def _w8(found: Found) -> Iterator[Line]:
    yield Line(
        f"seconds, {found['transactions']:,} transactions under other rules", _spread(found, "seconds")
    )
    yield Line("seconds to load them", _number(found["load_s"]))
    yield Line("seconds under the same rules, nothing otherwise", _number(found["same_rules_s"]))


def _behind(found: Found) -> Iterator[Line]:
    alone = _spread(found, "p999_ms")
    for name in ("checkpoint", "compounding"):
        figure = f"p99.9 at {found['calls_per_s']:,} calls/s, {name}, ms"
        yield Line(figure, _spread(found, f"p999_ms_{name}"), "without", alone, _ratio(found["ratios"][name]))


def _python_rules(found: Found) -> Iterator[Line]:
    without = _number(found["swipes_per_s"]["without"])
    for name, ratio in found["ratios"].items():
        said = name.replace("_", " ")
        figure = f"swipes/s, a rule in Python that says something of {said}"
        yield Line(figure, _number(found["swipes_per_s"][name]), "without", without, _ratio(ratio))
    alone = found["lone_p50_us"]
    figure, beside = "p50 of a purchase alone, with such a rule, us", _number(alone["without"])
    yield Line(figure, _number(alone["every"]), "without", beside, _ratio(alone["every"] / alone["without"]))


def _dry_run(found: Found) -> Iterator[Line]:
    figure, posted = f"purchases tried out/s, {found['cards']:,} cards", _spread(found, "purchases_per_s")
    ratio = _ratio(found["ratios"]["posted"])
    yield Line(figure, _spread(found, "dry_runs_per_s"), "the same posted", posted, ratio)


def _curve(found: Found) -> Iterator[Line]:
    for one in found["curve"]:
        limit = _number(one["limit_swipes_per_s"])
        ratio = _ratio(one["swipes_per_s"] / one["limit_swipes_per_s"])
        yield Line(
            f"swipes/s, {one['cards']:,} cards",
            _spread(one, "swipes_per_s"),
            "its journal, bare LMDB",
            limit,
            ratio,
        )
        yield Line("bytes of memory a card", _number(one["memory_bytes_per_card"]))
    for cards, why in found["missing"].items():
        yield Line(f"swipes/s, {int(cards):,} cards", "-", why)


def _lone(found: Found) -> Iterator[Line]:
    ratio = _ratio(found["ratios"]["bare_commit"])
    beside = f"bare LMDB commit of {found['bytes']} bytes"
    yield Line(
        "p50 of a swipe alone, ms", _number(found["p50_ms"]), beside, _number(found["bare_p50_ms"]), ratio
    )


def _keys(found: Found) -> Iterator[Line]:
    [ratio] = found["ratios"].values()
    before = _number(found["swipes_per_s_before"])
    figure = f"swipes/s, {found['ids']:,} ids more"
    yield Line(figure, _spread(found, "swipes_per_s"), "before them", before, _ratio(ratio))
    yield Line("p50 of an old key's duplicate, ms", _number(found["duplicate_p50_ms"]))
    yield Line("pages read for it", _number(found["duplicate_major_faults"]))


_LINES: dict[str, Callable[[Found], Iterator[Line]]] = {
    "W1": _w1,
    "W1-card": _w1_card,
    "W1-demo": _w1_demo,
    "W1-rules": _w1_rules,
    "python-rules": _python_rules,
    "dry-run": _dry_run,
    "W2": _w2,
    "W2-behind": _behind,
    "W3": _w3,
    "W4": _w4,
    "W5": _w5,
    "W6": _w6,
    "W7": _w7,
    "W8": _w8,
    "curve": _curve,
    "lone": _lone,
    "keys": _keys,
}


def _number(value: float) -> str:
    """Whole from a thousand on, else three digits."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if value >= 1_000 else f"{value:.3g}"


def _spread(found: Found, name: str) -> str:
    least, most = found.get(f"{name}_min"), found.get(f"{name}_max")
    if least is None or most is None or least == most:
        return _number(found[name])
    return f"{_number(found[name])} ({_number(least)} to {_number(most)})"


def _ratio(value: float) -> str:
    return f"{value:.3g}"
