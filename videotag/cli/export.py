"""Exports a model as a self-contained folder for predict, tag and extract, checked against the original.

    videotag export --weights=data/checkpoints --to openvino
    videotag predict --weights=data/checkpoints/export_openvino_f32 --filelist=my.list

The folder contains the network for one backend, config, labels, and a model card (README.md).
--weights=A,B,C exports several taggers as an ensemble that averages their probabilities. If the outputs
differ from the original network's by more than the bounds of docs/export.md, nothing is written, and the exit
code is 2.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from videotag.cli import arguments, values
from videotag.errors import EXIT_OK, ConfigError, LabelFileError, OutputError
from videotag.formats.filelist import ListEntry

if TYPE_CHECKING:
    from videotag.config import Config
    from videotag.inference.trained_model import ModelSource

SUMMARY = "export a model that runs in one backend, without the training code"
logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `videotag export`."""
    arguments.add_model_arguments(parser)
    parser.add_argument(
        "--weights", required=True, help="a checkpoint or named weights; A,B,C: an ensemble of taggers"
    )
    parser.add_argument(
        "--to",
        required=True,
        choices=values.BackendNames(),
        metavar="BACKEND",
        help="backend of the export: %(choices)s",
    )
    parser.add_argument(
        "--precision", choices=("f32", "bf16"), default="f32", help="precision of the export (default: f32)"
    )
    parser.add_argument(
        "--output",
        help="output folder; an existing export is replaced (default: export_<to>_<precision> beside the "
        "weights; for named weights data/exports/<name>_<to>_<precision>)",
    )
    parser.add_argument("--label_file", help="class names (default: those beside the weights)")
    parser.add_argument(
        "--sample", metavar="LIST", help="features (videos for a TSN) for the check, besides generated ones"
    )
    parser.add_argument("--json", action="store_true", help="print export.json instead of a summary")


def run(args: argparse.Namespace) -> int:
    """Writes the export and prints how much its outputs differ from the original."""
    from videotag.inference.export import check_output, export_model
    from videotag.reports.model_card import model_card
    from videotag.runtime.backends import check_backend

    if args.use_gpu is True:
        raise ConfigError("--use_gpu=True: export runs on a CPU; leave it out")
    check_backend(args.to, args.precision, flag="--to")
    found = arguments.find_checkpoints(args.weights)
    for weights in found:
        if weights.is_export:
            raise ConfigError(f"{weights.path.parent}: is an export; give the weights it was made from")
    sources = arguments.read_model(args, {}, found).sources
    _check_settings(args, sources[0].config)
    folder = _folder(args, sources)
    inputs = [args.config, arguments.label_file(args), args.sample]
    check_output(folder, inputs=[*inputs, *(weights.path for weights in found)])
    if not args.output:
        _check_same_weights(folder, sources)
    done = export_model(
        sources,
        folder,
        backend=args.to,
        precision=args.precision,
        labels=_labels(args, sources[0]),
        samples=_samples(args, sources[0]),
        card=model_card,
    )
    if args.json:
        arguments.show(done.manifest.model_dump_json(indent=2, by_alias=True))
    else:
        arguments.show(f"parity: {done.parity.text}\nwritten: {done.folder}")
    return EXIT_OK


def _check_settings(args: argparse.Namespace, config: Config) -> None:
    """Checks that --set does not contradict the device, backend and precision of the export.

    Raises:
        ConfigError: A value contradicts the export.
    """
    from videotag.config_file import parse_overrides

    given = {key.lower() for key, _ in parse_overrides(args.set)}
    for key, value, fitting, reason in (
        ("TRAIN.use_gpu", config.train.use_gpu, False, "export runs on a CPU; leave it out"),
        ("INFER.backend", config.infer.backend, args.to, f"the export is for {args.to}; leave it out"),
        (
            "INFER.precision",
            config.infer.precision,
            args.precision,
            f"the export is in {args.precision}; leave it out, or give --precision={config.infer.precision}",
        ),
    ):
        if key.lower() in given and value not in (fitting, "auto"):
            raise ConfigError(f"--set {key}={value}: {reason}")


def _folder(args: argparse.Namespace, sources: list[ModelSource]) -> Path:
    if args.output:
        return Path(args.output)
    weights, name = sources[0].weights, f"export_{args.to}_{args.precision}"
    if weights.named:  # their folder is a cache or a package
        return Path("data/exports") / f"{weights.named.name}_{args.to}_{args.precision}"
    return weights.path.parent / name


def _check_same_weights(folder: Path, sources: list[ModelSource]) -> None:
    """Checks that an existing export in the default folder has the same source weights.

    Raises:
        OutputError: It has other source weights.
    """
    from videotag.runtime.exported import read_export
    from videotag.weights import EXPORT_FILE

    if not (folder / EXPORT_FILE).exists():
        return
    there = [weights.file for weights in read_export(folder / EXPORT_FILE).manifest.source_weights]
    asked = [source.weights.path.name for source in sources]
    if there != asked:
        raise OutputError(
            f"{folder}: contains an export of {', '.join(there)}, not of {', '.join(asked)}; give --output"
        )


def _labels(args: argparse.Namespace, source: ModelSource) -> list[str] | None:
    """The class names; None, with a warning, if they are unknown."""
    named = arguments.label_file(args)
    try:
        return source.weights.labels(named, source.config.model)
    except LabelFileError as error:
        if named or source.config.model.label_file or source.weights.labels_beside:
            raise
        logger.warning("no class names in the export: %s", error)
        return None


def _samples(args: argparse.Namespace, source: ModelSource) -> list[ListEntry]:
    if not args.sample:
        return []
    from videotag.inference.data import read_list

    entries = read_list(args.sample, source.config, source.config.infer)
    return [replace(entry, label_ids=()) for entry in entries]
