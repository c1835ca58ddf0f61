"""The command line: serve an engine, run requests from a file, replay the demo's year, and so on.

Exit codes: 0 all is well; 1 it is not, or something broke; 2 the command was used wrongly. What is asked
for goes to stdout, what went wrong to stderr. Python owns the signals: SIGTERM and SIGINT drain the
server, close the engine and end with 0.
"""

import contextlib
import dataclasses
import datetime
import ipaddress
import json
import os
import resource
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from onecard import (
    EngineError,
    Rules,
    RulesError,
    Secrets,
    SecretsError,
    __version__,
    codes,
    run,
    triggers,
    verify,
)
from onecard.client import CallFailed, Client, Sale
from onecard.engine import CHECKPOINT_ENTRIES, Engine
from onecard.explain import Explanation, Fate, amount_of, amount_of_points
from onecard.reports import PublishedRules
from onecard.rules import json_schema
from onecard.v1 import transaction_pb2
from onecard.what_if import WhatIf, load_period
from onecard.what_if.show import Units, show

GRACE_S = 30.0
POLL_S = 0.2
TROUBLE = 2
"""Exit code of a diff that cannot be made: its 1 says that there is a difference."""
_VERSION_MAX = 2**32 - 1

app = typer.Typer(
    help="The transaction engine behind a membership card.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
rules_app = typer.Typer(help="Rule files, and the versions that were published.", no_args_is_help=True)
app.add_typer(rules_app, name="rules")
secrets_app = typer.Typer(help="Files of keys for PINs, aliases and coupon codes.", no_args_is_help=True)
app.add_typer(secrets_app, name="secrets")
triggers_app = typer.Typer(help="What is granted after the commit.", no_args_is_help=True)
app.add_typer(triggers_app, name="triggers")

_out = Console(highlight=False)
_err = Console(stderr=True, highlight=False, soft_wrap=True)


def data_dir() -> Path:
    """Where the data is if nobody says: the user's data directory, by the XDG rules."""
    home = os.environ.get("XDG_DATA_HOME", "")
    return (Path(home) if os.path.isabs(home) else Path.home() / ".local" / "share") / "onecard"


def _existing(directory: Path | None) -> Path:
    """A data directory that is there; without a name that of the user."""
    where = directory or data_dir()
    if not (where / "journal").is_dir():
        raise typer.BadParameter(f"there is no data directory at {where}: name one")
    return where


def _fail(message: str, exit_code: int = 1) -> NoReturn:
    _err.print(f"error: {message}", style="red", markup=False)
    raise typer.Exit(exit_code)


@contextlib.contextmanager
def _reported(exit_code: int = 1) -> Iterator[None]:
    """What is broken becomes one line and this exit code."""
    try:
        yield
    except (EngineError, RulesError, SecretsError, CallFailed, triggers.RunnerError, OSError) as error:
        _fail("; ".join([str(error), *getattr(error, "__notes__", [])]), exit_code)


def _version(wanted: bool) -> None:
    if wanted:
        _out.print(f"onecard {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options that come before a command."""


RuleFileArgument = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A rule file (TOML).")]
RuleFileOption = Annotated[
    Path | None, typer.Option("--rules", exists=True, dir_okay=False, help="Rule file to publish.")
]
DataArgument = Annotated[
    Path | None, typer.Argument(metavar="[DIR]", exists=True, file_okay=False, help="Data directory, closed.")
]
TargetOption = Annotated[
    str | None, typer.Option(metavar="HOST:PORT", help="Server to send the requests to.")
]
ProgrammeOption = Annotated[int, typer.Option(min=1, max=65535, help="Number of the programme.")]
SecretsOption = Annotated[
    Path | None,
    typer.Option("--secrets", exists=True, dir_okay=False, help="File of keys for PINs, aliases and codes."),
]


def _secrets(file: Path | None) -> Secrets | None:
    return None if file is None else Secrets.load(file)


def _loopback(listen: str) -> str:
    """HOST:PORT with a loopback address; typer.BadParameter says what else is wrong."""
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise typer.BadParameter(f"{listen!r} is not HOST:PORT, like 127.0.0.1:7411")
    host = "127.0.0.1" if host == "localhost" else host.strip("[]")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise typer.BadParameter(f"{host!r} is not an IP address, like 127.0.0.1") from None
    if not address.is_loopback:
        raise typer.BadParameter(
            f"{host} can be reached from outside, and there is no TLS yet: listen on 127.0.0.1 or ::1"
        )
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


@app.command()
def serve(
    directory: Annotated[
        Path | None,
        typer.Argument(metavar="[DIR]", file_okay=False, help="Data directory; made if it is not there."),
    ] = None,
    listen: Annotated[
        str, typer.Option(callback=_loopback, help="Loopback address; port 0 takes any free one.")
    ] = "127.0.0.1:7411",
    rules: RuleFileOption = None,
    opens: Annotated[
        datetime.datetime | None,
        typer.Option(
            "--opens", formats=["%Y-%m-%d"], help="Register programme 1 with this first business date."
        ),
    ] = None,
    checkpoint_entries: Annotated[
        int, typer.Option(min=1, help="A checkpoint pass begins every so many journal entries.")
    ] = CHECKPOINT_ENTRIES,
    secrets: SecretsOption = None,
    python_rules: Annotated[
        list[str] | None,
        typer.Option(
            "--python-rules", metavar="MODULE", help="A module with rules in Python; may be given again."
        ),
    ] = None,
) -> None:
    """Serve gRPC until SIGTERM or SIGINT; what was answered is durable."""
    stopping = _stopped_by_signals()
    _raise_file_limit()
    data = directory or data_dir()
    with (
        _reported(),
        Engine(
            data,
            checkpoint_entries=checkpoint_entries,
            secrets=_secrets(secrets),
            python_rules=python_rules or (),
        ) as engine,
    ):
        if opens is not None:
            _approved(engine.register_programme(1, "programme 1", opens.date()), "--opens", _OPENS_MENDS)
        if rules is not None:
            _publish(engine, Rules.load(rules), "--rules", _SERVE_MENDS)
        server = engine.serve(listen)
        print(f"listening on {server.address}", flush=True)
        while not stopping.wait(POLL_S) and engine.poisoned() is None and not server.wait(0):
            pass
        reason = engine.poisoned()
        if reason is None and not stopping.is_set():
            reason = "the server stopped by itself"
        server.stop(GRACE_S)
        reason = reason or engine.poisoned()
    if reason is not None:
        _fail(f"the engine stopped: {reason}")


Mends = dict[codes.Code, str]
"""What to do about a code."""

_OPENS_MENDS: Mends = {
    codes.Code.DUPLICATE: "programme 1 is there already, with another name or date: leave --opens out"
}
_SERVE_MENDS: Mends = {
    codes.Code.TERMINAL_NOT_REGISTERED: "programme 1 is not registered yet: add --opens YYYY-MM-DD"
}
_OVERTAKEN = "somebody else has published meanwhile: look at the history, and publish again"
_PUBLISH_MENDS: Mends = {
    codes.Code.TERMINAL_NOT_REGISTERED: "there is no such programme: name another with --programme",
    codes.Code.DUPLICATE: _OVERTAKEN,
    codes.Code.INVALID_TRANSACTION: _OVERTAKEN,
}


def _publish(on: Engine | Client, rules: Rules, what: str, mends: Mends, version: int | None = None) -> None:
    """Publish rules that `what` names."""
    try:
        code = on.publish(rules, version=version)
    except RulesError as error:
        _name_problems(error)
    except ValueError as error:
        _fail(f"{what}: {error}")
    _approved(code, what, mends)


def _approved(code: int, what: str, mends: Mends) -> None:
    if code != codes.Code.APPROVED:
        known = mends.get(codes.Code(code), "see docs/codes.md")
        _fail(f"{what} was answered {code:02d} ({codes.text(code)}): {known}")


def _raise_file_limit() -> None:
    """Every connection is an open file: take as many as the system lets this process have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # Some systems name no limit and refuse it all the same; then the old one stays.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


_STDIN = Path("-")


def _readable(file: Path) -> Path:
    if file != _STDIN and not file.is_file():
        raise typer.BadParameter(f"there is no file {file}")
    return file


@app.command(name="run")
def run_command(
    file: Annotated[
        Path,
        typer.Argument(callback=_readable, help="Requests as JSON lines; - is standard input."),
    ],
    data: Annotated[
        Path | None, typer.Option(file_okay=False, help="Data directory to open; made if it is not there.")
    ] = None,
    target: TargetOption = None,
    output: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Where the answers go; left out: standard output.")
    ] = None,
    secrets: SecretsOption = None,
    stop_on_refusal: Annotated[
        bool, typer.Option("--stop-on-refusal", help="End at the first answer with a code but 00 and 10.")
    ] = False,
    stop_on_malformed: Annotated[
        bool, typer.Option("--stop-on-malformed", help="End at the first line that is no request.")
    ] = False,
) -> None:
    """Send requests from a file, and write their answers as JSON lines (docs/grpc.md)."""
    if (data is None) == (target is None):
        raise typer.BadParameter("name one: --data DIR or --target HOST:PORT")
    if target is not None and secrets is not None:
        raise typer.BadParameter("--secrets: the server has its own keys, pass them to `onecard serve`")
    with contextlib.ExitStack() as stack:
        stack.enter_context(_reported())
        # Opened first: a directory that cannot be written must not cost what was posted already its answers.
        to = stack.enter_context(output.open("w", encoding="utf-8", buffering=1)) if output else sys.stdout
        client = stack.enter_context(_connected(data or data_dir(), target, secrets=_secrets(secrets)))
        lines = stack.enter_context(_followed(file, to is sys.stdout and sys.stdout.isatty()))
        name = "standard input" if file == _STDIN else str(file)
        tally = run.run(
            lines,
            client,
            lambda text: print(text, file=to),
            lambda number, why: _err.print(f"{name}:{number}: {why}", markup=False),
            stop_on_refusal=stop_on_refusal,
            stop_on_malformed=stop_on_malformed,
        )
    if tally.malformed or tally.stopped:
        raise typer.Exit(1)


@contextlib.contextmanager
def _connected(
    data: Path, target: str | None, *, secrets: Secrets | None = None, programme: int = 1
) -> Iterator[Client]:
    """A client of a server, or without one of an engine that is opened and served for it alone.

    Either way the requests go the same way.
    """
    if target is not None:
        with Client(target, programme=programme) as client:
            yield client
        return
    with Engine(data, secrets=secrets) as engine:
        server = engine.serve("127.0.0.1:0")
        try:
            with Client(server.address, programme=programme) as client:
                yield client
        finally:
            server.stop(GRACE_S)


@contextlib.contextmanager
def _followed(file: Path, quiet: bool) -> Iterator[Iterator[str]]:
    """The lines of a file, with a bar on a terminal that shows how far they are read.

    What is no UTF-8 is let through as it is, so that its line is named and the others are run.
    """
    if file == _STDIN:
        yield iter(sys.stdin)
        return
    columns = TextColumn("running"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    shown = _err.is_terminal and not quiet
    with (
        file.open(encoding="utf-8", errors="surrogateescape") as lines,
        Progress(*columns, console=_err, transient=True, disable=not shown) as progress,
    ):
        total = 0
        if shown:
            total = sum(1 for _ in lines)
            lines.seek(0)
        yield iter(progress.track(lines, total=total))


@app.command()
def explain(
    sale: Annotated[
        str, typer.Argument(metavar="SALE", help="Sequence of its entry, or a file with a Purchase.")
    ],
    directory: DataArgument = None,
    target: TargetOption = None,
    programme: ProgrammeOption = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say which rule gave which amount in a sale, and which nearly applied.

    SALE is the sequence that the sale was answered with, or a file with one line as for `onecard run`: a
    Purchase or an Authorise, which is tried out and not posted. Of a capture it tells the fees, and which
    authorisation priced it.
    """
    asked = int(sale) if sale.isdecimal() else _sale_in(Path(sale))
    with _asked(directory, target, programme) as client, _reported():
        found = client.explain(asked)
    if found.code or found.version is None or found.answer is None:
        _fail(f"{sale}: {found.code:02d} {codes.text(found.code)}")
    if as_json:
        _out.print_json(json.dumps(dataclasses.asdict(found), default=str))
        return
    _out.print(_explained(found))
    if found.priced_by:
        command = _explain_command(found.priced_by, directory, target, programme)
        _say(f"entry {found.priced_by} priced it: {command} tells its discounts and points")


def _explain_command(sequence: int, directory: Path | None, target: str | None, programme: int) -> str:
    """The command that explains another entry of the same books."""
    words = ["onecard", "explain", str(sequence)]
    words += [str(directory)] * (directory is not None)
    words += ["--target", target] if target else []
    words += ["--programme", str(programme)] * (programme != 1)
    return shlex.join(words)


def _sale_in(file: Path) -> Sale:
    """The sale of a file with one line."""
    try:
        lines = [line for line in file.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file} is no sequence, and cannot be read: {error}") from None
    if len(lines) != 1:
        raise typer.BadParameter(f"{file} has {len(lines)} lines: write one sale")
    try:
        method, request = run.read(lines[0])
    except run.Malformed as error:
        raise typer.BadParameter(f"{file}: {error}") from None
    if not isinstance(request, (transaction_pb2.PurchaseRequest, transaction_pb2.AuthoriseRequest)):
        raise typer.BadParameter(f"{file}: {method} is no sale: write a Purchase or an Authorise")
    return request


_STYLES = {Fate.COUNTS: "green", Fate.GIVES_WAY: "yellow", Fate.MISSES: "dim"}
_BROKEN_STYLE = "red"
"""Of a rule in Python that refused the sale, or was not heard."""


def _explained(found: Explanation) -> Table:
    """One row a rule; amounts are in minor units of money, points in points."""
    answer, version = found.answer, found.version
    assert answer is not None
    assert version is not None
    posted = f"entry {answer.sequence}" if answer.sequence else "not posted"
    table = Table(
        title=f"{codes.text(answer.code)}, {posted}, rules version {version.version}: "
        f"paid {answer.amount}, discount {answer.discount}, points {amount_of_points(answer.points_earned)}",
        title_justify="left",
    )
    for name in ("rule", "gives", ""):
        table.add_column(name, justify="right" if name == "gives" else "left")
    for one in found.verdicts:
        table.add_row(one.rule, amount_of(one, 0), one.why, style=_STYLES.get(one.fate, _BROKEN_STYLE))
    return table


@app.command()
def demo(
    directory: Annotated[
        Path | None,
        typer.Option("--dir", file_okay=False, help="Data directory to keep; left out: a passing one."),
    ] = None,
    rules: RuleFileOption = None,
    picture: Annotated[
        Path, typer.Option(dir_okay=False, help="Where the picture of the year is put.")
    ] = Path("onecard-demo.png"),
    days: Annotated[int | None, typer.Option(min=1, help="Replay only so many business days.")] = None,
) -> None:
    """Replay a real year of a grocery chain through the engine."""
    try:
        from onecard import demo as replay
    except ModuleNotFoundError as error:
        _fail(f"{error.name} is missing: install the demo's parts with `pip install 'onecard[demo]'`")
    with _reported():
        raise typer.Exit(replay.run(directory, rules, picture, days))


@rules_app.command()
def check(
    file: RuleFileArgument,
    directory: DataArgument = None,
    target: TargetOption = None,
    programme: ProgrammeOption = 1,
) -> None:
    """Check a rule file, and say what it does; problems come with file, line and mend.

    With DIR or --target the stores and merchants that it names are checked, too.
    """
    rules = _checked(file)
    if directory is not None or target is not None:
        with _reported(), _asked(directory, target, programme) as client:
            try:
                code = client.check_registered(rules)
            except RulesError as error:
                _name_problems(error)
        _approved(code, str(file), _PUBLISH_MENDS)
    for sentence in rules.explain():
        _say(sentence)


def _checked(file: Path, exit_code: int = 1) -> Rules:
    """The rules of a file; problems are named one a line."""
    try:
        return Rules.load(file)
    except RulesError as error:
        _name_problems(error, exit_code)


def _name_problems(error: RulesError, exit_code: int = 1) -> NoReturn:
    """What is wrong with a rule file, one line each."""
    for problem in error.problems:
        _err.print(str(problem), markup=False)
    raise typer.Exit(exit_code) from None


def _say(line: str, style: str | None = None) -> None:
    _out.print(line, style=style, markup=False, soft_wrap=True)


@rules_app.command()
def publish(
    file: RuleFileArgument,
    directory: DataArgument = None,
    target: TargetOption = None,
    programme: ProgrammeOption = 1,
) -> None:
    """Publish a rule file as the next version; the newest text again is no other version."""
    rules = _checked(file)
    with _reported(), _asked(directory, target, programme) as client:
        before = client.rules()
        number = before.number_for(rules.text)
        if before.version and number == before.version.version:
            _say(f"version {number} of programme {programme} has this text already")
            return
        _publish(client, rules, str(file), _PUBLISH_MENDS, number)
    _say(f"version {number} of programme {programme} is published")


@rules_app.command()
def history(
    directory: DataArgument = None,
    target: TargetOption = None,
    programme: ProgrammeOption = 1,
    version: Annotated[
        int | None, typer.Option(min=1, max=_VERSION_MAX, help="Print the text of this version, exactly.")
    ] = None,
) -> None:
    """Show the versions that were published, newest last, or the text of one."""
    with _reported(), _asked(directory, target, programme) as client:
        if version is not None:
            # As bytes: what the terminal's encoding would make of it is not what was published.
            typer.echo(_version_of(client, version).text.encode(), nl=False)
            return
        found = client.rules_versions()
        if found.code:
            _fail(_no_rules(client))
        if not found.versions:
            _say("no rules were published yet")
            return
        table = Table("version", "business date", "sequence", "sentences")
        before: PublishedRules | None = None
        for one in found.versions:
            rules = _version_of(client, one.version)
            change = _counted(before, rules)
            table.add_row(str(one.version), str(one.business_date), str(one.sequence), change)
            before = rules
    _out.print(table)


def _counted(before: PublishedRules | None, after: PublishedRules) -> str:
    """How many sentences went, and how many came, with a version."""
    try:
        if before is None:
            return f"+{len(_parsed(after).explain())}"
        changes = _parsed(before).changes(_parsed(after))
    except RulesError:
        return "unknown: a text is no rule file"
    return f"-{len(changes.went)} +{len(changes.came)}" if changes else "no difference"


@rules_app.command()
def diff(
    old: Annotated[str, typer.Argument(help="A rule file, or the number of a version.")],
    new: Annotated[str, typer.Argument(help="The same.")],
    directory: DataArgument = None,
    target: TargetOption = None,
    programme: ProgrammeOption = 1,
) -> None:
    """Say which sentences go (-) and come (+) from one rule file, or version, to another.

    Exit code 0: both do the same; 1: they differ; 2: they cannot be compared.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_reported(TROUBLE))
        numbers = [_number(side) for side in (old, new)]
        client = stack.enter_context(_asked(directory, target, programme)) if any(numbers) else None
        before, after = (
            _parsed(_version_of(client, number, TROUBLE))
            if client and number
            else _checked(Path(side), TROUBLE)
            for side, number in zip((old, new), numbers, strict=True)
        )
    changes = before.changes(after)
    if changes is None:
        _say("no difference")
        return
    for sentence in changes.went:
        _say(f"- {sentence}", "red")
    for sentence in changes.came:
        _say(f"+ {sentence}", "green")
    raise typer.Exit(1)


def _number(side: str) -> int | None:
    """The version that is named; None: a file is, and is there."""
    if side.isascii() and side.isdigit():
        if not 1 <= int(side) <= _VERSION_MAX:
            raise typer.BadParameter(f"there is no version {side}: they are numbered from 1 on")
        return int(side)
    if not Path(side).is_file():
        raise typer.BadParameter(f"there is no file {side}; a version is named by its number, like 3")
    return None


@contextlib.contextmanager
def _asked(directory: Path | None, target: str | None, programme: int) -> Iterator[Client]:
    """A client of a server, or of the data directory: without either, that of the user."""
    if directory is not None and target is not None:
        raise typer.BadParameter("name one: DIR or --target HOST:PORT")
    data = _existing(directory) if target is None else data_dir()
    with _connected(data, target, programme=programme) as client:
        yield client


def _version_of(client: Client, number: int, exit_code: int = 1) -> PublishedRules:
    """A version that was published; without it the command ends."""
    found = client.rules(number)
    if found.code:
        _fail(_no_rules(client, number), exit_code)
    return found


def _no_rules(client: Client, number: int = 0) -> str:
    """Why there is no such version."""
    found = client.rules_versions()
    if found.code:
        return f"there is no programme {client.programme}"
    there = f"the newest is {len(found.versions)}" if found.versions else "none was published yet"
    return f"programme {client.programme} has no version {number} of its rules: {there}"


def _parsed(published: PublishedRules) -> Rules:
    number = published.version.version if published.version else 0
    return Rules.parse(published.text, f"version {number}")


@rules_app.command()
def schema() -> None:
    """Print the JSON Schema of rule files, for editors (docs/rules.md)."""
    typer.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))


DateOption = Annotated[
    datetime.datetime | None, typer.Option(formats=["%Y-%m-%d"], help="A business date; else all there are.")
]


@app.command(name="what-if")
def what_if_command(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", exists=True, file_okay=False, help="Data directory, closed.")
    ],
    file: RuleFileArgument,
    since: DateOption = None,
    until: DateOption = None,
    programme: ProgrammeOption = 1,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of tables.")] = False,
    picture: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Draw a picture, too: FILE.png.")
    ] = None,
) -> None:
    """Execute a period again under other rules, beside what happened; the books are not touched."""
    rules, where = _checked(file), _existing(directory)
    draw = _drawing() if picture else None
    columns = TextColumn("loading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with (
        _reported(),
        Progress(*columns, console=_err, transient=True, disable=not _err.is_terminal) as progress,
    ):
        task = progress.add_task("", total=None)
        try:
            period = load_period(
                where,
                since=since.date() if since else None,
                until=until.date() if until else None,
                programme=programme,
                progress=lambda done, total: progress.update(task, completed=done, total=total),
            )
            outcome = period.run(rules)
        except ValueError as error:
            _fail(str(error))
    if as_json:
        typer.echo(json.dumps(outcome.plain(), ensure_ascii=False))
    else:
        show(_out, outcome, Units.of(rules))
    if picture and draw:
        with _reported():
            draw(outcome, Units.of(rules), picture)
        _err.print(f"the picture: {picture}", markup=False)


def _drawing() -> Callable[[WhatIf, Units, Path], None]:
    """What draws a picture; asked for before the work, not after it."""
    try:
        from onecard.what_if.picture import draw
    except ModuleNotFoundError as error:
        _fail(f"{error.name} is missing: install what draws with `pip install 'onecard[demo]'`")
    return draw


SecretsArgument = Annotated[Path, typer.Argument(dir_okay=False, help="File of keys.")]


@secrets_app.command(name="new")
def new_secrets(file: SecretsArgument) -> None:
    """Make a file with one new key, which its owner alone may read."""
    with _reported():
        _told(file, Secrets.new(file))


@secrets_app.command(name="rotate")
def rotate_secrets(file: SecretsArgument) -> None:
    """Add a key to a file: new PINs and codes are made with it, older ones stay good."""
    with _reported():
        _told(file, Secrets.rotate(file))


def _told(file: Path, secrets: Secrets) -> None:
    numbers = ", ".join(map(str, secrets.numbers))
    _out.print(f"{file}: keys {numbers}; keep a copy in a safe place", markup=False, soft_wrap=True)


@triggers_app.callback()
def triggers_help() -> None:
    """What is granted after the commit."""


@triggers_app.command(name="run")
def run_triggers(
    terminal: Annotated[int, typer.Option(min=1, max=_VERSION_MAX, help="Where grants are made.")],
    directory: DataArgument = None,
    target: TargetOption = None,
    programme: ProgrammeOption = 1,
    once: Annotated[bool, typer.Option("--once", help="End where the journal ends.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write a line of JSON for every grant.")] = False,
) -> None:
    """Do what the triggers of the rules say, until SIGTERM or SIGINT (docs/triggers.md)."""
    stopping = _stopped_by_signals()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_reported())
        on = stack.enter_context(_triggered(directory, target, programme))
        status = stack.enter_context(_err.status("starting")) if _err.is_terminal else None
        runner = triggers.Runner(on, terminal, told=_tell_grant if as_json else lambda _: None)

        def shown() -> bool:
            if status is not None:
                status.update(_tallied(runner.tally))
            return stopping.is_set()

        tally = runner.run(to_end=once, stopping=shown)
    if not as_json:
        _say(_tallied(tally))


def _stopped_by_signals() -> threading.Event:
    """Set by SIGTERM and SIGINT."""
    stopping = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    return stopping


@contextlib.contextmanager
def _triggered(directory: Path | None, target: str | None, programme: int) -> Iterator[triggers.Target]:
    """The programme of a server, or of a data directory that nobody else has open."""
    if directory is not None and target is not None:
        raise typer.BadParameter("name one: DIR or --target HOST:PORT")
    if target is not None:
        with Client(target, programme=programme) as client:
            yield triggers.Served(client)
        return
    with Engine(_existing(directory)) as engine:
        yield triggers.InProcess(engine, programme)


def _tallied(tally: triggers.Tally) -> str:
    refused = ", ".join(f"{count:,} with {code:02d}" for code, count in sorted(tally.refused.items()))
    words = [f"{tally.next - 1:,} entries", f"{tally.granted:,} granted", f"{refused or 'none'} refused"]
    return ", ".join(words + [f"{tally.repeated:,} done before"] * (tally.repeated > 0))


def _tell_grant(outcome: triggers.Outcome) -> None:
    firing, told = outcome.firing, outcome.told
    line = {
        "trigger": firing.trigger,
        "for": firing.sequence,
        "card": outcome.card,
        **({"tier": firing.tier} if firing.tier else {"bundle": firing.bundle}),
        "code": told.code,
        "reason": told.reason,
        "sequence": told.sequence,
        "replayed": told.replayed,
    }
    print(json.dumps(line), flush=True)


@app.command(name="verify")
def verify_command(directory: DataArgument = None) -> None:
    """Walk the whole journal: chain, conservation, and the state rebuilt from nothing."""
    where = _existing(directory)
    columns = TextColumn("verifying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with (
        _reported(),
        Progress(*columns, console=_err, transient=True, disable=not _err.is_terminal) as progress,
    ):
        task = progress.add_task("", total=None)
        found = verify(where, lambda done, total: progress.update(task, completed=done, total=total))
    table = Table("programme", "unit", "sum of all legs")
    for programme, sums in sorted(found.sums.items()):
        for unit, total in sorted(sums.items()):
            table.add_row(str(programme), unit, str(total))
    _out.print(
        f"{found.entries:,} entries in {found.blocks:,} blocks, {found.bytes:,} bytes, {found.cards:,} cards"
    )
    _out.print(table)
    _out.print(
        f"journal    {found.head}",
        f"state      {found.state}",
        f"checkpoint {found.checkpoint_state}",
        sep="\n",
    )
    for problem in found.problems:
        _err.print(f"problem: {problem}", style="red", markup=False)
    if found.problems:
        raise typer.Exit(1)
    _out.print("whole: chain, conservation and state agree")
