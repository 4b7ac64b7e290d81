"""What an installed videotag brings with it, and finds again from any folder."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from videotag.errors import WeightsError
from videotag.system.resources import find_resource, list_configs
from videotag.weights import DEFAULT_EXTRACTOR, find_weights, named_weights

ROOT = Path(__file__).resolve().parents[1]


def test_the_wheel_brings_configs_weights_list_and_template(tmp_path):
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    names = set(zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist())
    expected = {f"videotag/_data/configs/{path.name}" for path in (ROOT / "configs").glob("*.yaml")}
    expected |= {
        "videotag/_data/weights/models.yaml",
        "videotag/cli/main.py",
        "videotag/imagenet_names_zh.txt",
    }
    expected |= {f"videotag/reports/{page}_report.html.j2" for page in ("tags", "eval")}
    assert expected <= names
    assert not [name for name in names if name.startswith(("tests/", "tools/", "data/"))]


def declared_packages():
    """Name -> version range, of all dependencies and extras."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = text.split("\ndependencies = [")[1].split("\n[project.scripts]")[0]
    found = map(Requirement, re.findall(r'"([A-Za-z][^"]*)"', block))
    return {each.name: each.specifier for each in found if each.name != "videotag"}


def test_the_list_of_dependencies_names_all_packages():
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8").split("| installed with |")[1]
    named = [name for row in re.findall(r"^\| ([\w, -]+) \|", text, re.M) for name in row.split(", ")]
    assert sorted(named) == sorted(declared_packages())


def test_versions_with_hashes_are_in_the_package_s_ranges_and_in_the_docs():
    docs = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    lines = (ROOT / "requirements-hashes.txt").read_text(encoding="utf-8").splitlines()
    found = [re.fullmatch(r"(\S+)==(\S+) --hash=sha256:([0-9a-f]{64})", x) for x in lines if x[0] != "#"]
    assert len(found) == 3
    for name, version, digest in (match.groups() for match in found):
        assert declared_packages()[name].contains(version)
        assert re.search(rf"^\| {name} {re.escape(version)} .*\| `{digest}` \|", docs, re.M)


def test_requirements_are_those_of_the_package():
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = pyproject.split("\ndependencies = [")[1].split("]\n")[0]
    declared = re.findall(r'^\s*"([^"]+)"', block, re.M)
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not line.startswith("#")] == declared


def test_a_file_of_the_working_folder_goes_before_the_shipped_one(work_dir):
    assert find_resource("configs/tsn.yaml") == ROOT / "configs" / "tsn.yaml"
    (work_dir / "configs").mkdir()
    (work_dir / "configs" / "tsn.yaml").write_text("")
    assert find_resource("configs/tsn.yaml") == Path("configs/tsn.yaml")


@pytest.mark.parametrize("name", ["../pyproject.toml", "/etc/nothing", "configs/none.yaml"])
def test_nothing_outside_the_shipped_files_is_found(work_dir, name):
    assert find_resource(name) is None


def test_every_packaged_weight_is_there_as_listed_and_its_config_is_shipped():
    assert named_weights()[DEFAULT_EXTRACTOR].present()
    for weights in named_weights().values():
        if weights.url or weights.present() is None:  # of an extra
            continue
        assert hashlib.sha256(weights.path().read_bytes()).hexdigest() == weights.sha256
        assert weights.config in {None, *(f"configs/{path.name}" for path in list_configs())}


def test_weights_are_found_by_name_file_prefix_and_folder(work_dir):
    found = find_weights(DEFAULT_EXTRACTOR)
    assert (found.path.suffix, found.config) == (".pth", "configs/tsn_efficientnet_lite0.yaml")
    (work_dir / "ck").mkdir()
    (work_dir / "ck" / "A.pdparams").write_bytes(b"x")
    for given in ("ck", "ck/A", "ck/A.pdparams"):
        assert find_weights(given).path == Path("ck/A.pdparams")


def test_unknown_weights_name_what_was_tried_and_what_there_is(work_dir):
    with pytest.raises(
        WeightsError,
        match=r"tried none, none.pdparams, none.safetensors, none.pth.*efficientnet_lite0_imagenet",
    ):
        find_weights("none")
