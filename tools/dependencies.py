"""Check the Rust dependencies against deny.toml: licences, sources, duplicates.

    python tools/dependencies.py

Reads what `cargo metadata` says of the locked dependencies, for all platforms; needs no network beyond
what a build needs, and no database. Prints every problem with its mend; exit code 1 if there is one.
"""

import collections
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"


def problems(packages: list[dict[str, Any]], deny: dict[str, Any]) -> list[str]:
    """What is wrong with packages, as `cargo metadata` describes them."""
    foreign = [package for package in packages if package["source"] is not None]
    return [
        *_licences(packages, set(deny["licenses"]["allow"])),
        *_sources(foreign),
        *_duplicates(foreign, deny["bans"]["skip"]),
    ]


def _licences(packages: list[dict[str, Any]], allowed: set[str]) -> list[str]:
    return [
        f"{package['name']} {package['version']}: its licence ({package['license']}) is not allowed: "
        "replace the crate, or allow the licence in deny.toml"
        for package in packages
        if not permitted(package["license"] or "", allowed)
    ]


def permitted(expression: str, allowed: set[str]) -> bool:
    """Whether an SPDX expression can be met by allowed licences alone: AND binds more tightly than OR.

    The old form with a slash means OR. Brackets nest.
    """
    inner = re.compile(r"\(([^()]*)\)")
    known = set(allowed)
    expression = expression.replace("/", " OR ")
    while group := inner.search(expression):
        # A bracket becomes one word, allowed or not as what stands in it.
        word = f"group{len(known)}" if permitted(group[1], known) else "refused"
        known.add(word) if word != "refused" else None
        expression = f"{expression[: group.start()]}{word}{expression[group.end() :]}"
    return any(
        all(" ".join(licence.split()) in known for licence in part.split(" AND "))
        for part in expression.split(" OR ")
    )


def _sources(foreign: list[dict[str, Any]]) -> list[str]:
    return [
        f"{package['name']} {package['version']} comes from {package['source']}: take it from crates.io"
        for package in foreign
        if package["source"] != REGISTRY
    ]


def _duplicates(foreign: list[dict[str, Any]], skipped: list[Any]) -> list[str]:
    versions = collections.defaultdict(list)
    for package in foreign:
        versions[package["name"]].append(package["version"])
    names = {(skip["crate"] if isinstance(skip, dict) else skip).split("@")[0] for skip in skipped}
    twice = {name: found for name, found in versions.items() if len(found) > 1}
    return [
        *(
            f"{name} is there in several versions ({', '.join(sorted(found))}): raise what needs the old "
            "one, or skip it in deny.toml with the reason"
            for name, found in sorted(twice.items())
            if name not in names
        ),
        *(
            f"deny.toml skips {name}, of which there is one version only: remove it"
            for name in sorted(names - set(twice))
        ),
    ]


def main() -> int:
    """Check the workspace; 1 if something is wrong."""
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--all-features"]
    found = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)
    deny = tomllib.loads((ROOT / "deny.toml").read_text())
    wrong = problems(json.loads(found.stdout)["packages"], deny)
    print("\n".join(wrong) or "licences, sources and versions of the dependencies are as deny.toml says")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
