"""The command line: serve an engine, run requests from a file, replay the demo's year, and so on.

Exit codes: 0 all is well; 1 it is not, or something broke; 2 the command was used wrongly. What is asked
for goes to stdout, what went wrong to stderr. Python owns the signals: SIGTERM and SIGINT drain the
server, close the engine and end with 0.
"""

import contextlib
import datetime
import ipaddress
import os
import resource
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from onecard import EngineError, Rules, RulesError, Secrets, SecretsError, __version__, codes, run, verify
from onecard.client import CallFailed, Client
from onecard.engine import CHECKPOINT_ENTRIES, Engine

GRACE_S = 30.0
POLL_S = 0.2

app = typer.Typer(
    help="The transaction engine behind a membership card.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
rules_app = typer.Typer(help="Rule files.", no_args_is_help=True)
app.add_typer(rules_app, name="rules")
secrets_app = typer.Typer(help="Files of keys for PINs, aliases and coupon codes.", no_args_is_help=True)
app.add_typer(secrets_app, name="secrets")

_out = Console(highlight=False)
_err = Console(stderr=True, highlight=False, soft_wrap=True)


def data_dir() -> Path:
    """Where the data is if nobody says: the user's data directory, by the XDG rules."""
    home = os.environ.get("XDG_DATA_HOME", "")
    return (Path(home) if os.path.isabs(home) else Path.home() / ".local" / "share") / "onecard"


def _fail(message: str) -> NoReturn:
    _err.print(f"error: {message}", style="red", markup=False)
    raise typer.Exit(1)


@contextlib.contextmanager
def _reported() -> Iterator[None]:
    """What is broken becomes one line and exit code 1."""
    try:
        yield
    except (EngineError, RulesError, SecretsError, CallFailed, OSError) as error:
        _fail("; ".join([str(error), *getattr(error, "__notes__", [])]))


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
) -> None:
    """Serve gRPC until SIGTERM or SIGINT; what was answered is durable."""
    stopping = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    _raise_file_limit()
    data = directory or data_dir()
    with (
        _reported(),
        Engine(data, checkpoint_entries=checkpoint_entries, secrets=_secrets(secrets)) as engine,
    ):
        if opens is not None:
            _approved(engine.register_programme(1, "programme 1", opens.date()), "--opens")
        if rules is not None:
            _approved(engine.publish(rules), "--rules")
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


_MENDS = {
    (
        "--opens",
        codes.Code.DUPLICATE,
    ): "programme 1 is there already, with another name or date: leave --opens out",
    (
        "--rules",
        codes.Code.TERMINAL_NOT_REGISTERED,
    ): "programme 1 is not registered yet: add --opens YYYY-MM-DD",
    (
        "--rules",
        codes.Code.INVALID_TRANSACTION,
    ): "a product of the rules before is missing: products are never removed",
}


def _approved(code: int, option: str) -> None:
    if code != codes.Code.APPROVED:
        known = _MENDS.get((option, codes.Code(code)), "see docs/codes.md")
        _fail(f"{option} was answered {code:02d} ({codes.text(code)}): {known}")


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
    target: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Server to send the requests to.")
    ] = None,
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
        client = Client(target) if target else stack.enter_context(_served_here(data, _secrets(secrets)))
        stack.callback(client.close)
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
def _served_here(data: Path | None, secrets: Secrets | None) -> Iterator[Client]:
    """A client of an engine that is opened and served for it alone: the same way as to any other server."""
    with Engine(data or data_dir(), secrets=secrets) as engine:
        server = engine.serve("127.0.0.1:0")
        try:
            yield Client(server.address)
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
def check(file: RuleFileArgument) -> None:
    """Check a rule file, and say what it does; problems come with file, line and mend."""
    try:
        found = Rules.load(file)
    except RulesError as error:
        for problem in error.problems:
            _err.print(str(problem), markup=False)
        raise typer.Exit(1) from None
    for sentence in found.explain():
        _out.print(sentence, markup=False, soft_wrap=True)


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


@app.command(name="verify")
def verify_command(
    directory: Annotated[
        Path | None,
        typer.Argument(metavar="[DIR]", exists=True, file_okay=False, help="Data directory, closed."),
    ] = None,
) -> None:
    """Walk the whole journal: chain, conservation, and the state rebuilt from nothing."""
    where = directory or data_dir()
    if not where.is_dir():
        raise typer.BadParameter(f"there is no data directory at {where}: name one")
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
