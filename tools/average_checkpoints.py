"""Averages the weights of several checkpoints of one network into a new checkpoint folder.

    python tools/average_checkpoints.py ck/AttentionLSTM_epoch7 ck/AttentionLSTM_epoch8 --output=averaged
    videotag eval --weights=averaged

Epochs of one run, or runs that began from the same weights: networks trained apart have no useful mean
(take them together by `--weights=A,B,C`). WEIGHTS may be anything that --weights takes. All fractional
arrays become means, batch norm's statistics among them; arrays of whole numbers are those of the last one.
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
from videotag.training.checkpoint import write_card
from videotag.weights import find_weights

_SHOWN_KEYS = {"dataset", "topk", "label_file"}  # of MODEL: they do not make another network


def main(argv: list[str] | None = None) -> int:
    """Runs one command line and returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="average_checkpoints",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("weights", nargs="+", metavar="WEIGHTS")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="new, for the mean with its config")
    return run_tool(parser, _work, argv)


def _work(args: argparse.Namespace) -> int:
    output = Path(args.output)
    if len(args.weights) < 2:
        raise ConfigError(f"{args.weights[0]}: the mean of one is itself; give two weights or more")
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise OutputError(f"--output {output}: is there already; name a new folder")
    load_models()
    members = [_member(text) for text in args.weights]
    check_same_network(members)
    config = members[0].config
    state = average([member.weights.path for member in members])
    write_card(output, config, members[0].class_names())
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
    """Compares every network's config and class names with the first.

    Raises:
        ConfigError: all differences, a line each.
    """
    first, *others = members
    problems = []
    for other in others:
        texts: Iterable[str] = _different_keys(first.config, other.config)
        if not texts:
            # Of one MODEL section all but the names are the same.
            texts = differences(first.config, first.class_names(), other.config, other.class_names())
        problems += [f"{first.weights.path} and {other.weights.path}: {text}" for text in texts]
    if problems:
        raise one_error(ConfigError, problems)


def average(paths: Sequence[Path]) -> dict[str, np.ndarray]:
    """The mean of weight files, in their own dtypes.

    Args:
        paths: files of the same arrays; the sums are float64.

    Raises:
        WeightsError: damaged; or names and shapes that are not the first file's, all of them, a line each.
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
    """The keys of two MODEL sections that make other networks, with both values."""
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
