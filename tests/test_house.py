"""The house keeps its order: who may know whom, no chance in the machine, fresh code, one door to LMDB."""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tools import dependencies

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "src_rust" / "core" / "src"

MACHINE = (
    *("machine", "rules", "cards", "wallets", "names", "series", "accounts", "units"),
    *("advice", "commands", "details", "calendar", "clearing", "growth"),
)
"""Rooms of the core that must give the same bytes anywhere."""

CHANCE = {
    "a clock": r"\bstd::time\b|\bInstant\b|\bSystemTime\b|\bchrono\b|\bUNIX_EPOCH\b",
    "randomness": r"\brand\b|\bgetrandom\b|\bRandomState\b|\buuid\b",
    "a float": r"\bf32\b|\bf64\b|(?<![\w.])[0-9][0-9_]*(?:\.[0-9]|e[0-9+-])",
    "a hash map": r"\bHashMap\b|\bHashSet\b",
    "a thread": r"\bstd::thread\b|\bthread::spawn\b|\brayon\b",
    "input or output": r"\bstd::fs\b|\bstd::io\b|\bstd::net\b|\bstd::env\b|\bprintln!|\beprintln!",
    "unsafe code": r"\bunsafe\b",
}


@cache
def tracked() -> tuple[Path, ...]:
    """Files of the project: those that git knows, or would take."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    found = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    paths = (ROOT / name for name in found.split("\0") if name)
    return tuple(path for path in paths if path.is_file())


def code(path: Path) -> str:
    """Rust without comments, strings and tests: what runs."""
    text = path.read_text()
    text = re.split(
        r"^#\[cfg\(test\)\]\s*(?:pub(?:\(crate\))? )?mod \w+ \{", text, maxsplit=1, flags=re.MULTILINE
    )[0]
    text = re.sub(r'b?"(?:\\.|[^"\\])*"', '""', text, flags=re.DOTALL)
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)


def room(name: str) -> list[Path]:
    """Files of a room of the core: a file, or a folder beside it."""
    return [path for path in [CORE / f"{name}.rs", *sorted((CORE / name).rglob("*.rs"))] if path.exists()]


@cache
def metadata() -> dict[str, Any]:
    """What cargo says of the workspace on this machine: what was built, so that nothing is downloaded."""
    rustc = subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True).stdout
    (host,) = re.findall(r"^host: (.*)$", rustc, re.MULTILINE)
    command = [
        "cargo",
        "metadata",
        "--format-version=1",
        "--locked",
        "--offline",
        f"--filter-platform={host}",
    ]
    found: dict[str, Any] = json.loads(
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    )
    return found


def below(crate: str) -> set[str]:
    """Names of all that a crate of ours is built from."""
    packages = {package["id"]: package["name"] for package in metadata()["packages"]}
    nodes = {node["id"]: node for node in metadata()["resolve"]["nodes"]}
    (start,) = (number for number, name in packages.items() if name == crate)
    seen, waiting = set[str](), [start]
    while waiting:
        for dependency in nodes[waiting.pop()]["deps"]:
            built_in = any(kind["kind"] in (None, "build") for kind in dependency["dep_kinds"])
            if built_in and dependency["pkg"] not in seen:
                seen.add(dependency["pkg"])
                waiting.append(dependency["pkg"])
    return {packages[number] for number in seen}


# Who may know whom


def test_the_core_knows_nobody() -> None:
    found = below("onecard-core")
    assert "heed" in found
    strangers = {
        name for name in found if re.match(r"pyo3|tokio|tonic|prost|hyper|numpy|arrow|onecard", name)
    }
    assert not strangers


def test_the_front_knows_no_python() -> None:
    found = below("onecard-grpc")
    assert {"onecard-core", "tonic"} <= found
    assert not {name for name in found if name.startswith(("pyo3", "numpy"))}
    assert "heed" not in {
        dependency["name"]
        for package in metadata()["packages"]
        if package["name"] in ("onecard-grpc", "onecard-py")
        for dependency in package["dependencies"]
    }


def test_the_crates_are_those_of_the_layout() -> None:
    members = set(metadata()["workspace_members"])
    folders = {
        str(Path(package["manifest_path"]).parent.relative_to(ROOT))
        for package in metadata()["packages"]
        if package["id"] in members
    }
    assert folders == {"src_rust/core", "src_rust/py", "grpc", "bench/driver"}


def test_no_python_in_the_front() -> None:
    assert not list((ROOT / "grpc").rglob("*.py*"))


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("engine/onecard", r"^\s*(?:import|from) (?:tests|bench|tools)\b"),
        ("bench", r"^\s*(?:import|from) (?:onecard\._core|tests|lmdb)\b"),
        ("tests", r"^\s*from onecard\._core import|^\s*(?:import|from) bench\b"),
    ],
)
def test_nothing_points_back_up(folder: str, forbidden: str) -> None:
    # LMDB itself is the limit that two workloads hold the engine against; one file tests the benchmarks.
    apart = {"bench/journal.py": "lmdb", "bench/lone.py": "lmdb", "tests/test_bench.py": "bench"}
    for path in (ROOT / folder).rglob("*.py"):
        found = {
            line.split()[1].split(".")[0]
            for line in re.findall(f"{forbidden}.*", path.read_text(), re.MULTILINE)
        }
        assert found <= {apart.get(path.relative_to(ROOT).as_posix())}, path


def test_the_model_is_written_without_onecard() -> None:
    parts = sorted((ROOT / "tests" / "model").glob("*.py"))
    assert parts
    for part in parts:
        assert not re.search(r"^\s*(?:import|from) onecard", part.read_text(), re.MULTILINE), part


# The machine


@pytest.mark.parametrize("name", MACHINE)
def test_there_is_no_chance_in_the_machine(name: str) -> None:
    files = room(name)
    assert files, f"the room {name} is gone: name its successor here"
    for path in files:
        for what, pattern in CHANCE.items():
            found = re.search(pattern, code(path))
            assert found is None, f"{what} in {path.relative_to(ROOT)}: {found[0]}"


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("a clock", "let now = std::time::Instant::now();"),
        ("randomness", "let x = rand::random();"),
        ("a float", "let share = 0.3 * amount;"),
        ("a float", "let share = amount as f64;"),
        ("a hash map", "use std::collections::HashMap;"),
        ("a thread", "std::thread::spawn(f);"),
        ("input or output", 'println!("{}", x);'),
        ("unsafe code", "unsafe { x }"),
    ],
)
def test_the_guard_of_the_machine_sees(tmp_path: Path, what: str, line: str) -> None:
    file = tmp_path / "room.rs"
    file.write_text("//! unsafe f64 0.5 HashMap\nfn f() { for x in 0..10 { t.0.1; } }\n")
    assert not any(re.search(pattern, code(file)) for pattern in CHANCE.values())
    file.write_text(f"fn f() {{\n    {line}\n}}\n#[cfg(test)]\nmod tests {{}}\n")
    assert [name for name, pattern in CHANCE.items() if re.search(pattern, code(file))] == [what]


def test_there_is_one_door_to_lmdb() -> None:
    doors = [
        path
        for path in ROOT.glob("*/**/*.rs")
        if "target" not in path.parts and re.search(r"\bheed\b", code(path))
    ]
    # A peer that the engine is measured against has LMDB for itself.
    peer = "bench/driver/src/bin/in_place.rs"
    assert {path.relative_to(ROOT).as_posix() for path in doors} == {"src_rust/core/src/storage.rs", peer}


def test_overflow_stops_in_release_builds() -> None:
    release = tomllib.loads((ROOT / "Cargo.toml").read_text())["profile"]["release"]
    assert release["overflow-checks"] is True


def test_no_toolchain_is_downloaded() -> None:
    assert not [path for path in tracked() if path.name.startswith("rust-toolchain")]


# Generated code and the dependencies


def test_generated_code_is_fresh(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "tools" / "generate.py", tmp_path], check=True)

    def files(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".py", ".pyi")}

    fresh, committed = files(tmp_path / "onecard" / "v1"), files(ROOT / "engine" / "onecard" / "v1")
    assert set(fresh) == set(committed)
    stale = [name for name in fresh if fresh[name] != committed[name]]
    assert not stale, "run `make generate`"


def project() -> dict[str, Any]:
    """The table [project] of pyproject.toml."""
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


def floor(name: str) -> Version:
    """The least version that the package asks for."""
    (found,) = (one for one in map(Requirement, project()["dependencies"]) if one.name == name)
    (least,) = (one.version for one in found.specifier if one.operator == ">=")
    return Version(least)


def test_the_stamps_of_generated_code_are_the_floors() -> None:
    folder = ROOT / "engine" / "onecard" / "v1"
    grpc_stamp = re.search(r"GRPC_GENERATED_VERSION = '(.*)'", (folder / "terminal_pb2_grpc.py").read_text())
    protobuf_stamp = re.search(r"Protobuf Python Version: (.*)", (folder / "terminal_pb2.py").read_text())
    assert grpc_stamp
    assert protobuf_stamp
    assert floor("grpcio") == floor("grpcio-health-checking") == Version(grpc_stamp[1])
    assert floor("protobuf") == Version(protobuf_stamp[1])


def locked() -> dict[str, list[Version]]:
    """Versions of every locked package; some differ by Python."""
    found: dict[str, list[Version]] = {}
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if match := re.match(r"([a-z0-9-]+)==([^ ;\\]+)", line):
            found.setdefault(match[1], []).append(Version(match[2]))
    return found


def test_the_lock_has_what_the_project_asks_for() -> None:
    asked = [
        *project()["dependencies"],
        *(one for extra in project()["optional-dependencies"].values() for one in extra),
    ]
    versions = locked()
    for one in map(Requirement, asked):
        assert one.name in versions, f"{one} is not locked: run `make lock`"
        assert all(version in one.specifier for version in versions[one.name]), f"{one}: run `make lock`"


def test_every_locked_file_has_a_hash() -> None:
    blocks = re.split(r"\n(?=[a-z0-9-]+==)", (ROOT / "requirements.lock").read_text())[1:]
    assert len(blocks) == sum(map(len, locked().values()))
    assert all("--hash=sha256:" in block for block in blocks)


def test_versions_agree() -> None:
    cargo = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]
    assert project()["version"] == cargo["version"]
    assert project()["license"] == cargo["license"] == "Apache-2.0"


@pytest.mark.parametrize(
    ("expression", "good"),
    [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("GPL-3.0-only OR MIT", True),
        ("MIT/Apache-2.0", True),
        ("MIT AND GPL-3.0-only", False),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", True),
        ("(MIT OR Apache-2.0) AND GPL-3.0-only", False),
        ("(GPL-3.0-only AND (MIT OR ISC)) OR Zlib", True),
        ("(GPL-3.0-only AND (MIT OR ISC)) OR BSL-1.0", False),
        ("Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT", True),
        ("", False),
    ],
)
def test_licences_are_read_as_spdx_says(expression: str, good: bool) -> None:
    allowed = {"MIT", "Apache-2.0", "ISC", "Zlib", "Unicode-3.0"}
    assert dependencies.permitted(expression, allowed) is good


def test_a_bad_dependency_is_seen() -> None:
    deny = {"licenses": {"allow": ["MIT"]}, "bans": {"skip": ["gone"]}}
    good: dict[str, Any] = {
        "name": "a",
        "version": "1.0.0",
        "license": "MIT",
        "source": dependencies.REGISTRY,
    }
    assert len(dependencies.problems([good], deny)) == 1
    packages = [
        good,
        good | {"version": "2.0.0"},
        good | {"name": "b", "license": None, "source": "git+https://x"},
    ]
    found = dependencies.problems(packages, deny)
    assert [line.split(" ")[0] for line in found] == ["b", "b", "a", "deny.toml"]


# Words


def words() -> Iterator[tuple[Path, str]]:
    """Texts of the project, except for what others wrote or a tool made."""
    for path in tracked():
        if (
            path.suffix in {".py", ".pyi", ".rs", ".md", ".toml", ".proto", ".yaml", ".sh", ".c"}
            or path.name == "Makefile"
        ):
            yield path, path.read_text()


def test_nothing_is_left_for_later_or_belongs_to_a_workplace() -> None:
    later = re.compile(
        r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b|(?:to" + r"do|unimpleme" + r"nted)!\(|/(?:home|root|work)/"
    )
    for path, text in words():
        found = later.search(text)
        assert found is None, f"{path.relative_to(ROOT)}: {found[0]}"


def test_no_test_is_skipped() -> None:
    skipped = re.compile(r"pytest\.(?:mark\.)?(?:skip|xf" + r"ail)|#\[ig" + r"nore")
    for path, text in words():
        assert not skipped.search(text), path.relative_to(ROOT)


def test_every_module_says_what_it_is_for() -> None:
    for path, text in words():
        if path.suffix == ".py" and text.strip():
            assert re.match(r'(?:#!.*\n)?(?:"""|# -\*-|# Generated)', text), path.relative_to(ROOT)
        if path.suffix == ".rs":
            assert text.startswith("//!") or "build.rs" in path.name, path.relative_to(ROOT)
