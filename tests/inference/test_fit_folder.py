"""fit.yaml as tag, eval, predict and export read it."""

from __future__ import annotations

import pytest

from videotag.cli.main import main
from videotag.errors import WeightsError
from videotag.inference.fit_folder import FitFolder

MODELS = "models: [models/mlp]\n"


@pytest.fixture
def folder(work_dir):
    """out/ with the folder of a model."""
    (work_dir / "out/models/mlp").mkdir(parents=True)
    return work_dir / "out"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "expected a mapping with the key models"),
        ("[1]", "expected a mapping with the key models"),
        ("{}", "models: missing, expected a list of 1 to 10 folders inside this one"),
        ("models: []", "models: [], expected a list"),
        ("models: x", "models: 'x', expected a list"),
        ("models: [3]", "models: 3, expected a list"),
        ("models: [../x]", "models: '../x', expected a list of 1 to 10 folders inside this one"),
        ("models: [/etc]", "models: '/etc', expected a list"),
        ("models: [models/lost]", "models: out/models/lost does not exist; copy the whole folder again, or"),
        (
            f"models: [{'x' * 256}]",
            f"models: out/{'x' * 256} does not exist; copy the whole folder again, or",
        ),
        ("models: [", "not a YAML file: line "),
        (MODELS + "extractor: 3", "extractor: 3, expected a section with weights and seg_num"),
        (MODELS + "extractor: {seg_num: 8}", "extractor.weights: missing, expected a name"),
        (MODELS + "extractor: {weights: x, seg_num: 0}", "extractor.seg_num: 0, expected an integer from 1 "),
    ],
)
def test_a_damaged_record_is_one_line_with_key_and_remedy(folder, capsys, text, problem):
    (folder / "fit.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(WeightsError) as caught:
        FitFolder("out")
    assert str(caught.value).startswith(f"out/fit.yaml: {problem}")
    assert str(caught.value).endswith("run `videotag fit` again")
    assert main(["eval", "--weights=out", "--save_dir=again"]) == 2
    assert capsys.readouterr().err == f"videotag eval: {caught.value}\n"


def test_a_lost_extractor_is_an_error_only_where_it_is_needed(folder):
    text = MODELS + "extractor: {weights: extractor/own.pdparams, seg_num: 8}"
    (folder / "fit.yaml").write_text(text, encoding="utf-8")
    fitted = FitFolder("out")
    assert [path.as_posix() for path in fitted.models] == ["out/models/mlp"]
    with pytest.raises(
        WeightsError,
        match=r"^out/fit\.yaml: extractor\.weights: out/extractor/own\.pdparams does not exist; copy",
    ):
        _ = fitted.extractor_weights
    (folder / "extractor").mkdir()
    (folder / "extractor/own.pdparams").touch()
    assert fitted.extractor_weights == "out/extractor/own.pdparams"
