"""Averages the weights of several checkpoints of one network into a new checkpoint folder.

    python tools/average_checkpoints.py ck/AttentionLSTM_epoch7 ck/AttentionLSTM_epoch8 --output=averaged
    videotag eval --weights=averaged

Average epochs of one run, or runs that started from the same weights. The mean of networks that were trained
independently is useless; combine those with `--weights=A,B,C`. WEIGHTS takes the same values as --weights.
Floating-point arrays are averaged, batch norm statistics included; integer arrays come from the last one.
"""

from __future__ import annotations

from videotag.system.signals import exit_with

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from run_tool import run_tool

from videotag.config import Config, load_config
from videotag.errors import EXIT_OK, ConfigError, OutputError, WeightsError, one_error
from videotag.formats.weight_files import read_weights, write_pdparams
from videotag.inference.load_weights import compare_state
from videotag.inference.trained_model import ModelSource, differences
from videotag.models import load_models
from videotag.safe_text import safe_repr
from videotag.training.checkpoint import write_config_and_labels
from videotag.weights import find_weights

_SHOWN_KEYS = {"dataset", "topk", "label_file"}  # MODEL keys that do not change the network


def main(argv: list[str] | None = None) -> int:
    """Runs one command line and returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="average_checkpoints",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("weights", nargs="+", metavar="WEIGHTS")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="new folder for the result")
    return run_tool(parser, _work, argv)


def _work(args: argparse.Namespace) -> int:
    output = Path(args.output)
    if len(args.weights) < 2:
        raise ConfigError(f"{args.weights[0]}: only one checkpoint; give two or more")
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise OutputError(f"--output {output}: already exists; name a new folder")
    load_models()
    members = [_member(text) for text in args.weights]
    check_same_network(members)
    config = members[0].config
    state = average([member.weights.path for member in members])
    write_config_and_labels(output, config, members[0].class_names())
    target = output / f"{config.entry.name}.pdparams"
    write_pdparams(target, state)
    print(f"{target}: the mean of {len(members)} checkpoints, {len(state)} arrays")
    return EXIT_OK


def _member(text: str) -> ModelSource:
    weights = find_weights(text)
    if weights.config is None:
        raise ConfigError(f"{weights.path}: no config belongs to it; put its config.yaml beside it")
    return ModelSource(weights, load_config(weights.config))


def check_same_network(members: Sequence[ModelSource]) -> None:
    """Checks that all configs and class names equal the first.

    Raises:
        ConfigError: They differ; one line per difference.
    """
    first, *others = members
    problems = []
    for other in others:
        texts: Iterable[str] = _different_keys(first.config, other.config)
        if not texts:
            # Equal MODEL sections may still have other class names.
            texts = differences(first.config, first.class_names(), other.config, other.class_names())
        problems += [f"{first.weights.path} and {other.weights.path}: {text}" for text in texts]
    if problems:
        raise one_error(ConfigError, problems)


def average(paths: Sequence[Path]) -> dict[str, np.ndarray]:
    """The mean of weight files, computed in float64.

    Args:
        paths: At least one weight file; all have the same array names and shapes.

    Returns:
        Name -> mean in the dtype of the last file; integer arrays are those of the last file.

    Raises:
        WeightsError: A file is damaged, or its names or shapes differ from the first; one line per
            difference.
    """
    first = read_weights(paths[0])
    sums = {name: np.asarray(a, np.float64) for name, a in first.items() if _is_fractional(a)}
    last, problems = first, []
    for path in paths[1:]:
        last = read_weights(path)
        texts = compare_state(first, last)
        problems += [f"{path}: not the network of {paths[0]}: {text}" for text in texts]
        if not problems:
            sums = {name: total + last[name] for name, total in sums.items()}
    if problems:
        raise one_error(WeightsError, problems)
    return {
        name: (sums[name] / len(paths)).astype(array.dtype) if name in sums else array
        for name, array in last.items()
    }


def _is_fractional(array: np.ndarray) -> bool:
    return np.issubdtype(array.dtype, np.floating)


def _different_keys(one: Config, two: Config) -> list[str]:
    """One message per MODEL key that differs and changes the network."""
    old, new = one.model.model_dump(), two.model.model_dump()
    keys = [key for key in {**old, **new} if key not in _SHOWN_KEYS]
    return [
        f"MODEL.{key}: {safe_repr(old.get(key))} and {safe_repr(new.get(key))}; give checkpoints of "
        "one network"
        for key in keys
        if old.get(key) != new.get(key)
    ]


if __name__ == "__main__":
    exit_with(main())
