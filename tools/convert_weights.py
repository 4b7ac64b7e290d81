"""Converts a weight file from one system's names to another's.

    python tools/convert_weights.py video_tag_tsn.tar t.safetensors --config=configs/tsn.yaml --to=torchvision

SOURCE may be anything that --weights takes; in which system's names it is, its content tells. TARGET's suffix
decides the kind of file: .pdparams or .safetensors. What the network has and SOURCE lacks (extractors often
have no classifier), TARGET lacks too. A TARGET that is there already is replaced by --overwrite alone.
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
    parser.add_argument("--config", help="of the network (default: the one that belongs to SOURCE)")
    parser.add_argument(
        "--to", default=OWN, metavar="SYSTEM", help=f"{OWN} (default) or a published layout of the network"
    )
    arguments.add_overwrite(parser)
    return run_tool(parser, _work, argv)


def _work(args: argparse.Namespace) -> int:
    suffix = Path(args.target).suffix
    if suffix not in WRITERS:
        raise ConfigError(f"{args.target}: expected a name that ends in {' or '.join(WRITERS)}")
    load_models()
    weights = find_weights(args.source)
    if Path(args.target).exists() and weights.path.samefile(args.target):
        raise ConfigError(f"{args.target}: is the source itself; give another target")
    path = args.config or weights.config
    if path is None:
        raise ConfigError(f"{weights.path}: no config belongs to it; give --config")
    if text := InputFiles([weights.path, path]).refusal(Path(args.target)):
        raise OutputError(f"{args.target}: {text}; give another TARGET")
    state = convert(weights.path, load_config(path), args.to)
    if not args.overwrite and Path(args.target).exists() and not _holds(args.target, state):
        raise OutputError(f"{args.target}: is there, with other content; give another TARGET, or --overwrite")
    WRITERS[suffix](args.target, state)
    print(f"{args.target}: {len(state)} arrays, in the names of {args.to}")
    return EXIT_OK


def _holds(path: str, state: dict[str, np.ndarray]) -> bool:
    """Whether a file holds these arrays and no others, as of an earlier call."""
    try:
        found = read_weights(path)
    except WeightsError:
        return False
    return found.keys() == state.keys() and all(
        array.dtype == state[name].dtype and np.array_equal(array, state[name], equal_nan=True)
        for name, array in found.items()
    )


def convert(source: Path, config: Config, system: str) -> dict[str, np.ndarray]:
    """The arrays of a weight file under a system's names.

    Args:
        source: a weight file of the config's network, in any layout that the network knows.
        config: of the network.
        system: OWN, or the name of one of the network's layouts.

    Raises:
        ConfigError: no such system for this network.
        WeightsError: the file does not fit the network.
    """
    model = config.entry.cls(config.model)
    layouts = {layout.name: layout for layout in getattr(model, "layouts", list)()}
    if system not in (OWN, *layouts):
        raise ConfigError(
            f"--to {system}: not a layout of {config.entry.name}; one of {', '.join([OWN, *layouts])}"
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
    return state if system == OWN else layouts[system].publish(state)


if __name__ == "__main__":
    exit_with(main())
