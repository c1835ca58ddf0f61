"""Whether this processor has what the compiled core takes for granted; importing this module warns if not.

The core is built for x86-64-v3 (`.cargo/config.toml`). On an older processor its first such instruction ends
the process without a word, so this is looked at before the core is loaded, and in Python. It is a warning and
no error because a core that was built for an older processor runs there.
"""

import platform
import warnings
from pathlib import Path

# What x86-64-v3 adds, as Linux names it: x86-64 psABI, "Micro-Architecture Levels"; lzcnt is `abm` there.
NEEDED = frozenset({"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"})


def missing(cpuinfo: str) -> list[str]:
    """What the first processor of this `/proc/cpuinfo` lacks, by name; nothing if it does not tell."""
    for line in cpuinfo.splitlines():
        name, _, flags = line.partition(":")
        if name.strip() == "flags":
            return sorted(NEEDED.difference(flags.split()))
    return []


def warn_if_lacking(machine: str, cpuinfo: Path) -> None:
    """Warns that the core may not run on this processor."""
    if machine != "x86_64" or not cpuinfo.exists():
        return
    if lacking := missing(cpuinfo.read_text()):
        warnings.warn(
            f"this processor has no {', '.join(lacking)}: if the process ends with 'Illegal instruction' "
            'now, build onecard for it: RUSTFLAGS="-C target-cpu=x86-64" maturin develop --release',
            RuntimeWarning,
            stacklevel=2,
        )


warn_if_lacking(platform.machine(), Path("/proc/cpuinfo"))
