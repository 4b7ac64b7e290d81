"""Converts a weight file to the parameter names of another library.

    python tools/convert_weights.py video_tag_tsn.tar t.safetensors --config=configs/tsn.yaml --to=torchvision

SOURCE takes the same values as --weights; its layout is detected. The suffix of TARGET decides the format:
.pdparams or .safetensors. Arrays that SOURCE lacks (often the classifier of an extractor) are missing in
TARGET too. Only --overwrite replaces an existing TARGET.
"""

from __future__ import annotations

from videotag.system.signals import exit_with

import argparse
from pathlib import Path

import numpy as np
from run_tool import run_tool

from videotag.cli import arguments
from videotag.config import Config, load_config
from videotag.errors import EXIT_OK, ConfigError, OutputError, WeightsError, one_error
from videotag.formats.weight_files import read_weights, write_pdparams, write_safetensors
from videotag.inference.input_files import InputFiles
from videotag.inference.load_weights import compare_state, network_state, read_adapted
from videotag.models import load_models
from videotag.models.contract import build_model
from videotag.weights import find_weights

OWN = "videotag-own"
WRITERS = {".pdparams": write_pdparams, ".safetensors": write_safetensors}


def main(argv: list[str] | None = None) -> int:
    """Runs one command line and returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="convert_weights",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("source", metavar="SOURCE")
    parser.add_argument("target", metavar="TARGET")
    parser.add_argument("--config", help="config of the network (default: the one of SOURCE)")
    parser.add_argument(
        "--to", default=OWN, metavar="LAYOUT", help=f"{OWN} (default) or a published layout of the network"
    )
    arguments.add_overwrite(parser)
    return run_tool(parser, _work, argv)


def _work(args: argparse.Namespace) -> int:
    suffix = Path(args.target).suffix
    if suffix not in WRITERS:
        raise ConfigError(f"{args.target}: expected the suffix {' or '.join(WRITERS)}")
    load_models()
    weights = find_weights(args.source)
    if Path(args.target).exists() and weights.path.samefile(args.target):
        raise ConfigError(f"{args.target}: TARGET is SOURCE; give another TARGET")
    path = args.config or weights.config
    if path is None:
        raise ConfigError(f"{weights.path}: no config beside it; give --config")
    if text := InputFiles([weights.path, path]).refusal(Path(args.target)):
        raise OutputError(f"{args.target}: {text}; give another TARGET")
    state = convert(weights.path, load_config(path), args.to)
    if not args.overwrite and Path(args.target).exists() and not _holds(args.target, state):
        raise OutputError(f"{args.target}: exists with other content; give another TARGET, or --overwrite")
    WRITERS[suffix](args.target, state)
    print(f"{args.target}: {len(state)} arrays in the layout {args.to}")
    return EXIT_OK


def _holds(path: str, state: dict[str, np.ndarray]) -> bool:
    """Whether a file holds exactly these arrays, as after an earlier run."""
    try:
        found = read_weights(path)
    except WeightsError:
        return False
    return found.keys() == state.keys() and all(
        array.dtype == state[name].dtype and np.array_equal(array, state[name], equal_nan=True)
        for name, array in found.items()
    )


def convert(source: Path, config: Config, layout: str) -> dict[str, np.ndarray]:
    """The arrays of a weight file under the parameter names of a layout.

    Args:
        source: Weight file of the config's network, in any layout that the network supports.
        config: Config of the network.
        layout: OWN, or the name of one of the network's layouts.

    Raises:
        ConfigError: The network has no such layout.
        WeightsError: The file does not fit the network.
    """
    model = build_model(config.entry, config.model)
    layouts = {each.name: each for each in getattr(model, "layouts", list)()}
    if layout not in (OWN, *layouts):
        raise ConfigError(
            f"--to {layout}: not a layout of {config.entry.name}; one of {', '.join([OWN, *layouts])}"
        )
    state = read_adapted(model, source, config_name=config.entry.name)
    own = network_state(model)
    last = getattr(model, "classifier", "output") + "."
    problems = compare_state(
        {name: tensor for name, tensor in own.items() if name in state or not name.startswith(last)}, state
    )
    if problems:
        head = f"{source}: does not fit the network of {config.entry.name}"
        raise one_error(WeightsError, [head, *(f"  {problem}" for problem in problems)])
    return state if layout == OWN else layouts[layout].publish(state)


if __name__ == "__main__":
    exit_with(main())
