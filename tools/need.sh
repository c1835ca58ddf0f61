#!/bin/sh
# Say what is missing on this machine and how to install it; print a Python that will do.
#
#   sh tools/need.sh        names what is missing on stderr, exit code 1; else prints the Python

set -u
cd "$(dirname "$0")/.."
missing=0

need() { # what is missing, the command that installs it on Debian and alike, and elsewhere
    missing=1
    printf 'missing: %s\n' "$1" >&2
    printf '  Debian, Ubuntu:  %s\n' "$2" >&2
    printf '  elsewhere:       %s\n' "$3" >&2
}

at_least() { # version, floor
    [ "$(printf '%s\n%s\n' "$2" "$1" | sort -t. -k1,1n -k2,2n | head -n 1)" = "$2" ]
}

rustup="curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y"
rust_floor=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
if ! command -v cargo >/dev/null 2>&1 || ! command -v rustc >/dev/null 2>&1; then
    need "Rust $rust_floor or newer (cargo, rustc)" "$rustup" "$rustup"
else
    rust=$(rustc --version | sed 's/^rustc \([0-9]*\.[0-9]*\).*/\1/')
    at_least "$rust" "$rust_floor" || need "Rust $rust_floor or newer (this is $rust)" "rustup update stable" "$rustup"
fi

if ! command -v cc >/dev/null 2>&1; then
    need "a C compiler (cc)" "sudo apt-get install build-essential" "install gcc or clang (macOS: xcode-select --install)"
fi

python=
for candidate in ${PYTHON:-} python3 python3.15 python3.14 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    need "Python 3.11 or newer with venv" "sudo apt-get install python3 python3-venv" \
        "install it from https://www.python.org/downloads/, or name it: make PYTHON=/path/to/python3"
fi

[ "$missing" -eq 0 ] || exit 1
printf '%s\n' "$python"
