"""The number of threads, and the CPU's instruction sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from videotag.errors import ConfigError
from videotag.system import cores
from videotag.system.cores import cpu_flags, mkl_cpu_type, num_cores


@pytest.mark.parametrize(("text", "number"), [("3", 3), ("4,2", 4)])
def test_the_variable_sets_the_number_of_threads(monkeypatch, text, number):
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert num_cores() == number


@pytest.mark.parametrize("text", ["0", "all", "-1", ""])
def test_a_variable_that_is_not_a_number_is_an_error(monkeypatch, text):
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    with pytest.raises(ConfigError, match=f"OMP_NUM_THREADS={text}: expected a whole number from 1"):
        num_cores()


AVX2 = "fpu sse2 avx avx2 fma bmi1 bmi2"
AVX512 = f"{AVX2} avx512f avx512dq avx512cd avx512bw avx512vl"
CPUINFO = "processor\t: 0\nvendor_id\t: {}\nflags\t\t: {}\n\nprocessor\t: 1\nflags\t: fpu\n"


@pytest.mark.parametrize(
    ("maker", "flags", "expected"),
    [
        ("AuthenticAMD", AVX512, "7"),
        ("AuthenticAMD", AVX2, "5"),
        ("AuthenticAMD", f"{AVX2} avx512f", "5"),
        ("AuthenticAMD", "fpu sse2 avx", None),
        ("HygonGenuine", AVX2, "5"),
        ("GenuineIntel", AVX512, None),
        ("", AVX512, None),
    ],
)
def test_mkl_gets_the_cpu_type_that_it_does_not_detect(maker, flags, expected):
    assert mkl_cpu_type(CPUINFO.format(maker, flags)) == expected


def test_a_system_without_cpu_information_is_not_changed():
    assert mkl_cpu_type("") is None
    assert cpu_flags("") == []


@pytest.mark.parametrize("text", [None, "processor\t: 0\nFeatures\t: fp asimd\n"])
def test_an_unknown_or_hidden_cpu_is_not_changed(tmp_path, monkeypatch, text):
    path = tmp_path / "cpuinfo"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    monkeypatch.setattr(cores, "_CPUINFO", path)
    assert (cpu_flags(), mkl_cpu_type()) == ([], None)


@pytest.mark.skipif(not cpu_flags(), reason="neither Linux nor an x86")
def test_the_flags_are_those_of_the_first_cpu():
    whole = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    assert cpu_flags() == cpu_flags(whole) != []
    assert mkl_cpu_type() == mkl_cpu_type(whole)
