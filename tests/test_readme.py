"""What the README promises: its example model works as written, its file map names every folder."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

CHECK = """
import numpy as np
from videotag.models import paddle
from videotag.registry import get_model
entry = get_model("minpool")
model = entry.cls(entry.config(name="MinPool", num_classes=3, feature_names=["rgb"], feature_dims=[2]))
assert [spec.name for spec in model.inputs] == ["rgb", "rgb.mask"] and model.outputs == ("logits",)
x = paddle.to_tensor(np.array([[[1.0, 2.0], [-9.0, -9.0]]], np.float32))
mask = paddle.to_tensor([[True, False]])
cut = model({"rgb": x[:, :1], "rgb.mask": mask[:, :1]})["logits"]
whole = model({"rgb": x, "rgb.mask": mask})["logits"]
np.testing.assert_allclose(whole.numpy(), cut.numpy(), atol=1e-6)
print("same logits", list(cut.shape))
"""


def test_the_example_model_works_as_written():
    example = next(
        block for block in re.findall(r"```python\n(.*?)```", README, re.S) if "register_model" in block
    )
    # In a process of its own: registering a model is for good.
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", example + CHECK], capture_output=True, text=True
    )
    assert done.stdout == "same logits [1, 3]\n", done.stderr


def test_the_file_map_names_every_folder_and_file_of_the_top_level():
    file_map = README.split("## Files")[1].split("## Add a model")[0]
    top = [path for path in (ROOT / "videotag").iterdir() if not path.name.startswith("_")]
    names = [f"`videotag/{path.name}/`" if path.is_dir() else f"`{path.name}`" for path in top]
    assert len(names) > 10
    assert [name for name in names if name not in file_map] == []


def test_the_docstring_of_each_folder_says_more():
    for path in (ROOT / "videotag").glob("*/__init__.py"):
        assert len(path.read_text(encoding="utf-8")) > 80, path
