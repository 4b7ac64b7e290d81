"""Who may import whom, read from the sources; and what a bare import may load."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from videotag.system.cores import MKL_VARIABLE, MKL_VARIABLES, THREADS_VARIABLE, mkl_cpu_type

ROOT = Path(__file__).resolve().parents[1]

#: Rooms and files of the top level, lowest first: each imports those of its own line or above it alone.
LAYERS = [
    ["safe_text", "class_checks"],
    ["errors"],
    ["registry", "system"],
    ["plugins"],
    ["media", "formats", "metrics", "sections", "train_section", "config_file", "config", "labels"],
    ["inputs", "models", "weights"],
    ["datasets", "runtime"],
    ["senses", "encoders"],
    ["inference"],
    ["training", "reports"],
    ["fit"],
    ["cli", "__main__"],
]
LAYER = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}
#: What these import loads no Paddle, with two exceptions in system/.
NO_PADDLE = {room for rooms in LAYERS[:5] for room in rooms} | {"inputs"}
SOURCES = sorted((ROOT / "videotag").rglob("*.py"))
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in SOURCES}


def room_of(path: Path) -> str:
    return path.relative_to(ROOT / "videotag").with_suffix("").parts[0]


def imported_modules(path: Path) -> set[str]:
    """Every module that a file imports anywhere, also inside functions; TYPE_CHECKING blocks too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def imported_files(path: Path) -> set[str]:
    """Those of them that are files of this package."""
    found = set()
    for name in imported_modules(path):
        parts = name.split(".")
        candidates = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
        found |= {next((c for c in candidates if c in MODULES), "")}
    return found - {""}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_file_imports_a_layer_above_its_own(path):
    room = room_of(path)
    if room == "__init__":  # the package's door fetches Tagger lazily
        return
    assert room in LAYER, f"{room}: give it a layer in this test and a line in the README's file map"
    for name in imported_modules(path):
        parts = name.split(".")
        if parts[0] == "videotag" and len(parts) > 1 and parts[1] in LAYER:
            assert LAYER[parts[1]] <= LAYER[room], f"{path}: {room} imports {name}"


def test_no_import_leads_back_to_where_it_began():
    """Of files, and of rooms."""
    files = {name: imported_files(path) - {name} for name, path in MODULES.items()}
    rooms: dict[str, set[str]] = {}
    for name, path in MODULES.items():
        imported = {room_of(MODULES[other]) for other in files[name]}
        rooms.setdefault(room_of(path), set()).update(imported - {room_of(path), "__init__"})
    rooms.pop("__init__")
    for graph in (files, rooms):
        try:
            list(TopologicalSorter(graph).static_order())
        except CycleError as error:
            pytest.fail(" imports ".join(reversed(error.args[1])))


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_lower_layers_do_not_import_paddle(path):
    if room_of(path) in NO_PADDLE and path.name not in ("quiet_paddle.py", "kept_memory.py"):
        assert not [n for n in imported_modules(path) if n.split(".")[0] in ("paddle", "torch", "cv2", "ray")]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_what_imports_paddle_at_once_imports_it_quietly(path):
    """Those of models/ do so by their package."""
    if room_of(path) == "models" or path.name == "quiet_paddle.py":
        return
    body = ast.parse(path.read_text(encoding="utf-8")).body
    modules = [node.module or "" for node in body if isinstance(node, ast.ImportFrom)]
    modules += [alias.name for node in body if isinstance(node, ast.Import) for alias in node.names]
    of_paddle = [index for index, name in enumerate(modules) if name.split(".")[0] == "paddle"]
    assert not of_paddle or "videotag.system.quiet_paddle" in modules


RUNTIMES = {"openvino", "onnxruntime"}  # which send telemetry unless they are silenced before
#: An import of them in the text of a program or a document.
RUNTIME_IMPORT = re.compile(
    r"""\b(?:import|from)\s+(?:[\w.]+\s*,\s*)*(?:openvino|onnxruntime)\b(?!_)"""
    r"""|(?:import_module|__import__)\(\s*["'](?:openvino|onnxruntime)\b"""
)


@pytest.mark.parametrize(
    "text",
    [
        "import openvino",
        "import os, onnxruntime as ort",
        "from openvino.runtime import Core",
        "from onnxruntime import InferenceSession",
        "python -c 'import time; import onnxruntime'",
        'importlib.import_module("openvino")',
    ],
)
def test_an_import_of_a_runtime_is_found(text):
    assert RUNTIME_IMPORT.search(text)


def test_openvino_and_onnx_runtime_are_imported_by_the_module_that_silences_them_alone():
    allowed = {ROOT / "videotag/system/quiet_runtimes.py", Path(__file__).resolve()}
    places = [ROOT / "videotag", ROOT / "tools", ROOT / "tests", ROOT / "docs"]
    files = [path for place in places for kind in ("*.py", "*.md", "*.j2") for path in place.rglob(kind)]
    files += [*ROOT.glob("*.py"), *ROOT.glob("*.md")]
    assert len(files) > len(SOURCES)
    for path in {*files} - allowed:
        found = RUNTIME_IMPORT.search(path.read_text(encoding="utf-8"))
        assert not found, f"{path}: {found[0]!r}; use videotag.system.quiet_runtimes"
        if path.suffix == ".py":
            assert not RUNTIMES & {name.split(".")[0] for name in imported_modules(path)}, path


def test_there_are_no_star_imports():
    for path in SOURCES:
        assert not [n for n in imported_modules(path) if n.endswith(".*")], path


def test_importing_videotag_and_its_lower_layers_loads_no_paddle_ray_or_cv2():
    code = (
        "import sys, videotag, videotag.metrics, videotag.formats.feature_files,"
        "videotag.formats.weight_files,"
        "videotag.formats.yt8m_records, videotag.formats.yt8m_pickles, videotag.formats.shards,"
        "videotag.media.video, videotag.media.decode_pool, videotag.config,"
        "videotag.cli.main;"
        "bad = {'paddle', 'ray', 'cv2', 'torch', 'tensorflow', 'google.protobuf'} & set(sys.modules);"
        "sys.exit(f'loaded: {bad}' if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_commands_load_numpy_only_when_they_run():
    """Its threads have to be started where signals are blocked: see main._import_numpy."""
    code = "import sys, videotag.cli.main; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_importing_videotag_takes_the_whole_cpu_unless_told_otherwise():
    names = (THREADS_VARIABLE, MKL_VARIABLE)
    code = f"import os, videotag; print(*[os.environ.get(name) for name in {names}])"
    environment = {k: v for k, v in os.environ.items() if k not in (*names, *MKL_VARIABLES)}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cases = [
        ({}, f"{cores} {mkl_cpu_type()}"),
        (dict(zip(names, ("3", "4"), strict=True)), "3 4"),
        ({"MKL_CBWR": "AVX2"}, f"{cores} None"),
        ({MKL_VARIABLE: ""}, f"{cores} {mkl_cpu_type() or ''}".strip()),
    ]
    for given, expected in cases:
        env = environment | given
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
        assert done.stdout.strip() == expected
