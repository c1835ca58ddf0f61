"""The command line: what goes where, exit codes, and a server that starts, drains and stops in good order."""

import dataclasses
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from queue import SimpleQueue

import grpc
import pytest
from typer.testing import CliRunner, Result

from onecard import Client, Engine, Rules, Secrets, cli, codes, rows, verify
from onecard.client import OutcomeUnknown, TopUp
from onecard.v1 import terminal_pb2, terminal_pb2_grpc, transaction_pb2
from tests.conftest import DAY, RULES, STOP_S, Serve, Served, found_chain

CARD = "6200000000000001"

Done = subprocess.CompletedProcess[str]


def onecard(*arguments: str | os.PathLike[str], **environment: str) -> Done:
    """Run the command line as a user does."""
    command = [sys.executable, "-m", "onecard", *map(str, arguments)]
    plain = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=STOP_S,
        check=False,
        env=os.environ | plain | environment,
    )


def quick(*arguments: str | os.PathLike[str]) -> Result:
    """The same in this process, for what ends before an engine is opened."""
    runner = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
    return runner.invoke(cli.app, list(map(str, arguments)))


@pytest.fixture
def rule_file(tmp_path: Path) -> Path:
    """The chain's rules as a file."""
    file = tmp_path / "rules.toml"
    file.write_text(RULES)
    return file


def test_version() -> None:
    done = onecard("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"onecard {metadata.version('onecard')}\n", "")


def test_the_script_is_installed() -> None:
    script = Path(sys.executable).with_name("onecard")
    assert subprocess.run([script, "--version"], capture_output=True, check=True).stdout.startswith(
        b"onecard "
    )


@pytest.mark.parametrize(
    "arguments", [["fly"], ["serve", "--fly"], ["rules"], ["rules", "check"], ["demo", "--days", "0"]]
)
def test_wrong_use_is_2(arguments: list[str]) -> None:
    done = quick(*arguments)
    assert done.exit_code == 2
    assert "Usage" in done.output


def test_wrong_use_is_2_for_the_shell_too() -> None:
    done = onecard("serve", "--fly")
    assert (done.returncode, done.stdout) == (2, "")
    assert "No such option" in done.stderr


def test_help_names_every_command() -> None:
    done = quick("--help")
    assert done.exit_code == 0
    assert all(command in done.output for command in ("serve", "run", "demo", "verify", "rules", "secrets"))


# rules check


def test_good_rules_are_explained(rule_file: Path) -> None:
    done = onecard("rules", "check", rule_file)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == Rules.parse(RULES).explain()


def test_bad_rules_are_named_with_file_and_line(rule_file: Path) -> None:
    rule_file.write_text(RULES.replace('discount = "5%"', 'discont = "[5%]"'))
    done = onecard("rules", "check", rule_file)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{rule_file}:8: unknown key `discont`: did you mean `discount`?\n"


def test_a_rule_file_that_is_not_there_is_wrong_use(tmp_path: Path) -> None:
    done = quick("rules", "check", tmp_path / "none.toml")
    assert done.exit_code == 2
    assert "does not exist" in done.stderr


# secrets


def test_keys_are_made_and_rotated(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    made = onecard("secrets", "new", file)
    assert (made.returncode, made.stderr) == (0, "")
    assert made.stdout == f"{file}: keys 1; keep a copy in a safe place\n"
    rotated = onecard("secrets", "rotate", file)
    assert (rotated.returncode, "keys 1, 2" in rotated.stdout) == (0, True)
    assert all(
        key.hex() not in made.stdout + rotated.stdout for key in dict(Secrets.load(file).keys()).values()
    )
    again = onecard("secrets", "new", file)
    assert (again.returncode, again.stdout) == (1, "")
    assert "File exists" in again.stderr
    assert Secrets.load(file).numbers == (1, 2)


def test_a_server_takes_its_keys_from_a_file(serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    Secrets.new(file)
    running = serve(tmp_path / "data", "--secrets", str(file))
    with Client(running.target) as client:
        assert len(client.codes(16, 1, 3)) == 3
    assert running.stop() == 0
    file.chmod(0o640)
    refused = onecard("serve", tmp_path / "data", "--secrets", file)
    assert (refused.returncode, "chmod 600" in refused.stderr) == (1, True)


# serve


@pytest.mark.parametrize(
    ("listen", "says"),
    [
        ("0.0.0.0:7411", "there is no TLS yet"),
        ("192.0.2.1:7411", "there is no TLS yet"),
        ("[::]:7411", "there is no TLS yet"),
        ("127.0.0.1", "is not HOST:PORT"),
        ("127.0.0.1:http", "is not HOST:PORT"),
        ("127.0.0.1:65536", "is not HOST:PORT"),
        ("example.org:1", "is not an IP address"),
        (":7411", "is not an IP address"),
    ],
)
def test_only_loopback_is_served(tmp_path: Path, listen: str, says: str) -> None:
    done = quick("serve", tmp_path / "data", "--listen", listen)
    assert done.exit_code == 2
    assert says in " ".join(done.stderr.replace("│", " ").split())
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("listen", ["localhost:0", "127.0.0.7:0"])
def test_every_loopback_address_is_served(serve: Serve, tmp_path: Path, listen: str) -> None:
    running = serve(tmp_path / "data", "--listen", listen)
    assert running.target.startswith("127.0.0.")
    assert running.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_in_good_order(served: Served, number: int) -> None:
    served.process.send_signal(number)
    assert served.process.wait(STOP_S) == 0
    assert served.process.stdout is not None
    assert served.process.stdout.read() == "", "stdout is for the address only"
    with Engine(served.directory):
        pass


def test_what_was_answered_is_there_after_a_stop(serve: Serve, served: Served) -> None:
    with Client(served.target, terminal=11, business_date=DAY) as client:
        found_chain(client, Rules.parse(RULES))
        client.issue(CARD, 1)
        assert client.top_up(CARD, 1_234).approved
    assert served.stop() == 0
    with Engine(served.directory) as engine:
        (answer,) = engine.execute(rows.balance(card=CARD, terminal=11))
        assert answer["principal_balance"] == 1_234
    again = serve(served.directory)
    with Client(again.target, terminal=11) as client:
        assert client.balance(CARD).principal_balance == 1_234


def test_a_chain_can_be_opened_from_the_command_line(serve: Serve, tmp_path: Path, rule_file: Path) -> None:
    options = ("--opens", DAY.isoformat(), "--rules", str(rule_file))
    served = serve(tmp_path / "data", *options)
    with Client(served.target) as client:
        assert client.trial_balance().open_date == DAY
        assert client.register_merchant(1, "grocer") == 0
    assert served.stop() == 0
    assert serve(tmp_path / "data", *options).stop() == 0, "the same again changes nothing"
    rule_file.write_text(RULES.replace('"5%"', '"6%"'))
    assert serve(tmp_path / "data", *options).stop() == 0
    with Engine(tmp_path / "data") as engine:
        assert len(engine.rules_versions().versions) == 2
        assert engine.rules().text == rule_file.read_text()


def test_rules_without_a_programme_are_refused_with_the_mend(tmp_path: Path, rule_file: Path) -> None:
    done = onecard("serve", tmp_path / "data", "--listen", "127.0.0.1:0", "--rules", rule_file)
    assert (done.returncode, done.stdout) == (1, "")
    assert "58 (terminal not registered): programme 1 is not registered yet: add --opens" in done.stderr


def test_rules_that_the_engine_does_not_take_stop_the_start(tmp_path: Path, rule_file: Path) -> None:
    options = (tmp_path / "data", "--listen", "127.0.0.1:0", "--rules", rule_file)
    with Engine(tmp_path / "data") as engine:
        found_chain(engine, Rules.parse(RULES))
    rule_file.write_text(RULES.replace("id = 1", "id = 2"))
    done = onecard("serve", *options)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: --rules: product 1 is in version 1 and missing now")


def test_bad_rules_stop_the_start(tmp_path: Path, rule_file: Path) -> None:
    rule_file.write_text("x = 1\n")
    done = onecard("serve", tmp_path / "data", "--rules", rule_file, "--opens", DAY.isoformat())
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{rule_file}:1: unknown key `x`" in done.stderr


def test_a_second_owner_is_refused_with_the_pid_of_the_first(served: Served) -> None:
    done = onecard("serve", served.directory, "--listen", "127.0.0.1:0")
    assert (done.returncode, done.stdout) == (1, "")
    assert str(served.process.pid) in done.stderr
    assert served.process.poll() is None


def test_a_port_that_is_taken_is_an_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = onecard("serve", tmp_path / "data", "--listen", f"127.0.0.1:{port}")
    assert (done.returncode, done.stdout) == (1, "")
    assert str(port) in done.stderr


def test_the_data_directory_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert cli.data_dir() == tmp_path / "onecard"
    monkeypatch.setenv("HOME", str(tmp_path))
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_DATA_HOME", value)
        assert cli.data_dir() == tmp_path / ".local" / "share" / "onecard"


def test_serve_raises_its_file_limit(serve: Serve, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, soft), hard))
    try:
        served = serve(tmp_path / "data")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    limits = Path(f"/proc/{served.process.pid}/limits")
    if limits.exists():
        (line,) = (line for line in limits.read_text().splitlines() if line.startswith("Max open files"))
        assert line.split()[3] == line.split()[4]
    host, port = served.target.split(":")
    connections = [socket.create_connection((host, int(port))) for _ in range(400)]
    with Client(served.target) as client:
        assert client.ready(10)
    for connection in connections:
        connection.close()


def test_an_open_stream_does_not_keep_the_server_from_stopping(served: Served) -> None:
    queue: SimpleQueue[terminal_pb2.TransactRequest | None] = SimpleQueue()
    header = transaction_pb2.Header(terminal=11)
    asked = terminal_pb2.Transaction(get_balance=transaction_pb2.GetBalanceRequest(header=header, card=CARD))
    with grpc.insecure_channel(served.target) as channel:
        stream = terminal_pb2_grpc.TerminalServiceStub(channel).Transact(iter(queue.get, None))
        queue.put(terminal_pb2.TransactRequest(transactions=[asked]))
        assert next(stream).answers[0].code == codes.Code.TERMINAL_NOT_REGISTERED
        before = time.monotonic()
        assert served.stop() == 0
        assert time.monotonic() - before < cli.GRACE_S + 10
        queue.put(None)


def test_a_commit_that_fails_ends_the_server_with_the_reason(tmp_path: Path) -> None:
    """A limit on the size of files stands for a disk that breaks: what was answered is there afterwards."""
    limited = ["sh", "-c", 'ulimit -f 8192 && exec "$@"', "sh"]  # in units of 512 bytes
    command = [
        *limited,
        sys.executable,
        "-m",
        "onecard",
        "serve",
        str(tmp_path / "data"),
        "--listen",
        "127.0.0.1:0",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    target = process.stdout.readline().removeprefix("listening on ").strip()
    answered = 0

    def load(client: Client) -> None:
        nonlocal answered
        requests = (TopUp(terminal=11, business_date=DAY, card=CARD, amount=1) for _ in range(400_000))
        for answer in client.transact(requests):
            assert answer.approved
            answered += 1

    with Client(target, terminal=11, business_date=DAY, attempts=1) as client:
        found_chain(client, Rules.parse(RULES))
        client.issue(CARD, 1)
        with pytest.raises(OutcomeUnknown):
            load(client)
    out, err = process.communicate(timeout=STOP_S)
    assert (process.returncode, out) == (1, "")
    assert "error: the engine stopped: " in err
    with Engine(tmp_path / "data") as engine:
        (balance,) = engine.execute(rows.balance(card=CARD, terminal=11))
        assert balance["principal_balance"] >= answered > 0


# verify


def test_a_whole_journal_is_said_to_be_whole(tmp_path: Path) -> None:
    with Engine(tmp_path / "data") as engine:
        found_chain(engine, Rules.parse(RULES))
        engine.execute(rows.issue(card=CARD, product=1, terminal=11, business_date=DAY, trace=1))
        engine.execute(rows.top_up(card=CARD, amount=700, terminal=11, business_date=DAY, trace=2))
        digest = engine.state_digest().hex()
    done = onecard("verify", tmp_path / "data")
    assert (done.returncode, done.stderr) == (0, "")
    assert "10 entries" in done.stdout
    assert done.stdout.count(digest) == 2
    assert done.stdout.endswith("whole: chain, conservation and state agree\n")


def test_an_open_engine_is_not_verified(served: Served) -> None:
    done = onecard("verify", served.directory)
    assert (done.returncode, done.stdout) == (1, "")
    assert str(served.process.pid) in done.stderr


def test_a_directory_that_is_not_there_is_wrong_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert quick("verify", tmp_path / "none").exit_code == 2
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    done = quick("verify")
    assert done.exit_code == 2
    assert "there is no data directory" in done.stderr


def test_problems_of_a_journal_are_1(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with Engine(tmp_path / "data"):
        pass
    found = verify(tmp_path / "data")
    damaged = dataclasses.replace(found, problems=("block 1: torn",))
    monkeypatch.setattr(cli, "verify", lambda *_: damaged)
    done = quick("verify", tmp_path / "data")
    assert done.exit_code == 1
    assert "problem: block 1: torn" in done.stderr
    assert "whole" not in done.stdout
