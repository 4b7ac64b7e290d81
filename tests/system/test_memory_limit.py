"""The memory of a machine and the limits of control groups, from files of a made-up system."""

from __future__ import annotations

import pytest

from videotag.system.memory_limit import memory_limit

NO_LIMIT_V1 = "9223372036854771712"


@pytest.fixture
def system(tmp_path):
    """system({"memory.max": "5"}): the folder of a system with these files in sys/fs/cgroup."""

    def make(files, *, groups="0::/\n", memory_kb=1000):
        texts = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
        texts["proc/meminfo"] = f"MemTotal:  {memory_kb} kB\nMemFree: 1 kB\nSwapTotal: 9999 kB\n"
        texts["proc/self/cgroup"] = groups
        for name, text in texts.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text, encoding="ascii")
        return tmp_path

    return make


def test_without_a_group_the_limit_is_the_machines_memory_without_swap(system):
    assert memory_limit(system({"memory.max": "max\n"})) == 1000 * 1024


def test_the_lowest_limit_of_all_groups_around_a_process_holds(system):
    files = {"a/memory.max": "5000\n", "a/b/memory.max": "7000\n", "a/b/c/memory.max": "max\n"}
    assert memory_limit(system(files, groups="0::/a/b/c\n")) == 5000


def test_a_container_sees_its_limit_at_the_outermost_group(system):
    assert memory_limit(system({"memory.max": "6000\n"}, groups="0::/docker/123\n")) == 6000


def test_groups_of_version_1_limit_the_memory_too(system):
    files = {"memory/job/memory.limit_in_bytes": "4000\n", "memory/memory.limit_in_bytes": NO_LIMIT_V1}
    assert memory_limit(system(files, groups="5:cpu,cpuacct:/x\n4:memory:/job\n0::/\n")) == 4000


def test_a_group_above_the_machines_memory_does_not_raise_it(system):
    assert memory_limit(system({"memory.max": NO_LIMIT_V1})) == 1000 * 1024


def test_a_system_that_does_not_tell_has_no_limit(tmp_path):
    assert memory_limit(tmp_path) is None
