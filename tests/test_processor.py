"""The look at the processor before the core is loaded."""

from pathlib import Path

import pytest

from onecard import processor

NEW = "processor\t: 0\nflags\t\t: fpu sse2 " + " ".join(sorted(processor.NEEDED)) + "\nbogomips : 1\n"


def test_what_a_processor_lacks_is_named() -> None:
    assert processor.missing(NEW) == []
    assert processor.missing(NEW.replace(" avx2", "").replace(" bmi1", "")) == ["avx2", "bmi1"]
    assert processor.missing("processor : 0\nFeatures : fp asimd\n") == []


def test_an_older_processor_is_warned_of(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    processor.warn_if_lacking("x86_64", cpuinfo)
    cpuinfo.write_text(NEW.replace(" abm", ""))
    processor.warn_if_lacking("aarch64", cpuinfo)
    with pytest.warns(RuntimeWarning, match="no abm: .*target-cpu=x86-64"):
        processor.warn_if_lacking("x86_64", cpuinfo)
