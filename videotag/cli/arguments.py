"""Flags shared by several commands, and functions that resolve them to configs, weights and videos."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videotag.cli import values
from videotag.errors import EXIT_FAILURES, EXIT_OK, ConfigError, FileListError, OutputError, WeightsError
from videotag.safe_text import escaped, is_plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from videotag.formats.filelist import ListEntry
    from videotag.inference.outputs import Destination, Summary
    from videotag.inference.trained_model import ModelSource, TrainedModel
    from videotag.weights import FoundWeights

logger = logging.getLogger(__name__)
DEFAULT_CONFIG = "configs/attention_lstm.yaml"
DEFAULT_WEIGHTS = "./data/checkpoints/AttentionLSTM_epoch9"
DEFAULT_LABEL_FILE = "label_3396.txt"


@dataclass(frozen=True)
class ListedVideos:
    """The videos of a command that processes a list.

    Attributes:
        entries: Videos, in the order of the list or sorted by name.
        list_name: File name of the list of results.
        left_out: Message about skipped files of a folder; None if there are none.
        filelist: Path of the list; None if there is none.
    """

    entries: list[ListEntry]
    list_name: str
    left_out: str | None = None
    filelist: str | None = None


def add_switch(parser: argparse.ArgumentParser, flag: str, *, help: str) -> None:
    """Adds a boolean flag, given as FLAG, FLAG=True or FLAG=False; the default is False."""
    parser.add_argument(flag, type=values.boolean, nargs="?", const=True, default=False, help=help)


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """Adds --overwrite, for commands that by default only replace their own outputs."""
    add_switch(
        parser,
        "--overwrite",
        help="replace output files that come from other inputs or programs; inputs are never replaced",
    )


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --model_name, --config, --set and --use_gpu."""
    parser.add_argument("--model_name", help="a model of `videotag models`; must agree with the config")
    parser.add_argument("--config", help="YAML file; the shipped configs/*.yaml are found from any folder")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a value: TRAIN.batch_size=32",
    )
    parser.add_argument(
        "--use_gpu",
        type=values.boolean_or_auto,
        nargs="?",
        const=True,
        help="True, False or auto (default: auto)",
    )


def add_runtime_arguments(
    parser: argparse.ArgumentParser,
    *,
    auto_precision: str = "bf16 if it is faster on this CPU and results stay close to f32",
) -> None:
    """Adds --backend and --precision.

    Args:
        parser: Parser of the command.
        auto_precision: Description of the command's precision "auto", for the help.
    """
    parser.add_argument(
        "--backend",
        choices=values.BackendNames("auto"),
        metavar="BACKEND",
        help="backend of the networks: %(choices)s (default: INFER.backend, auto: the fastest installed "
        "one that agrees with the layers)",
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "f32", "bf16", "f16"),
        help=f"default: INFER.precision, auto: {auto_precision}; f16: only on a GPU",
    )


def runtime_flags(args: argparse.Namespace) -> dict[str, str | None]:
    """The values of the flags of add_runtime_arguments by config key; None for flags that are not given."""
    return {"INFER.backend": args.backend, "INFER.precision": args.precision}


def add_list_arguments(
    parser: argparse.ArgumentParser, *, default_filelist: str | None, default_save_dir: str
) -> None:
    """Adds --filelist, --video_path, --save_dir, --root, --overwrite and --log_interval."""
    default = f" (default: {default_filelist})" if default_filelist else ""
    parser.add_argument("--filelist", help=f"list of videos, one per line{default}")
    parser.add_argument("--video_path", help="a video or a folder of videos, instead of --filelist")
    parser.add_argument("--save_dir", default=default_save_dir, help="default: %(default)s")
    parser.add_argument("--root", help="folder that absolute paths are relative to when mirrored in SAVE_DIR")
    add_overwrite(parser)
    parser.add_argument(
        "--log_interval", type=values.natural, default=1, help="videos per log line (default: 1)"
    )


def listed_videos(
    args: argparse.Namespace,
    *,
    none_named: str,
    default_filelist: str | None = None,
    count_names: Sequence[str] = (),
) -> ListedVideos:
    """The videos named by the flags of add_list_arguments.

    A listed file that does not exist is a failure of that video, not of the list.

    Args:
        args: Arguments with the flags of add_list_arguments.
        none_named: File name of the list of results if no list is given.
        default_filelist: Path of the list if no flag names videos; None for none.
        count_names: Names of the numbers behind the path, see read_filelist; folders of frames need a list.

    Raises:
        ConfigError: Both or neither of --video_path and --filelist are given, --video_path does not exist, or
            it is given for folders of frames.
        FileListError: The list is invalid, see read_filelist.
    """
    from videotag.formats.filelist import ListEntry, read_filelist
    from videotag.formats.json_lists import is_json_list

    if args.video_path and args.filelist:
        raise ConfigError("--video_path and --filelist: give one of them")
    if args.video_path and count_names:
        raise ConfigError(
            "--video_path: MODEL.format is frames, which needs a list; give --filelist with the list that "
            "`videotag frames` writes, or --set MODEL.format=video"
        )
    if args.video_path:
        paths, left_out = videos_in(args.video_path)
        return ListedVideos([ListEntry(path) for path in paths], none_named, left_out)
    filelist = args.filelist or default_filelist
    if not filelist:
        raise ConfigError("no videos; give --filelist with a list of videos, or --video_path")
    if is_json_list(filelist):
        raise FileListError(
            f"{filelist}: JSON lines, which train, eval, predict and export read; write one video per line"
        )
    entries = read_filelist(filelist, must_exist=False, count_names=count_names)
    return ListedVideos(entries, f"{Path(filelist).stem}.list", filelist=filelist)


def destination(args: argparse.Namespace, videos: ListedVideos) -> Destination:
    """The destination of the outputs of a command that processes a list.

    Args:
        args: Arguments with the flags of add_list_arguments.
        videos: Videos of the command.
    """
    from videotag.inference.outputs import Destination

    root = Path(args.root) if args.root else None
    return Destination(Path(args.save_dir), videos.list_name, root, videos.filelist, args.overwrite)


def print_summary(summary: Summary, videos: ListedVideos, save_dir: Path, *, done: str, listed: str) -> int:
    """Prints the results of processing a list of videos, and returns the exit code.

    Args:
        summary: Summary of the run.
        videos: Videos of the command.
        save_dir: Output folder of the run.
        done: Past participle of what is done to a video, such as "extracted".
        listed: Name of the list of results, such as "feature list".
    """
    from videotag.system.failures import FAILURES_FILE

    show(
        f"{done} {summary.written} (in part {len(summary.partial)}), kept {summary.kept}, "
        f"failed {len(summary.failed)}"
    )
    if summary.missing:
        show(f"listed without inputs that failed: {len(summary.missing)}")
    if videos.left_out:
        show(escaped(videos.left_out))
    if summary.list_path:
        show(f"{listed}: {summary.list_path}")
    if summary.failed or summary.missing:
        show(f"failures: {save_dir / FAILURES_FILE}")
        return EXIT_FAILURES
    return EXIT_OK


def overrides(args: argparse.Namespace, flags: dict[str, Any]) -> list[tuple[str, Any]]:
    """Config overrides of the command line, for load_config; later ones win.

    Args:
        args: Arguments with the flags of add_model_arguments.
        flags: Values of the command's own flags by dotted key; None for flags that are not given.

    Raises:
        ConfigError: A --set is invalid, see parse_overrides.
    """
    from videotag.config_file import parse_overrides

    named = {"TRAIN.use_gpu": args.use_gpu, **flags}
    return parse_overrides(args.set) + [(key, value) for key, value in named.items() if value is not None]


def read_source(
    args: argparse.Namespace,
    flags: dict[str, Any],
    weights: FoundWeights,
    *,
    default: str | None = DEFAULT_CONFIG,
) -> ModelSource:
    """Weights with their config: --config, else the one beside the weights, else `default`.

    Args:
        args: Arguments with the flags of add_model_arguments.
        flags: Values of the command's own flags, see overrides.
        weights: Weights of the model.
        default: Path of a shipped config; None for none.

    Raises:
        ConfigError: The config is invalid, see load_config.
    """
    from videotag.inference import trained_model

    return trained_model.read_source(
        weights,
        args.config,
        model_name=args.model_name,
        overrides=overrides(args, flags),
        default_config=default,
    )


def label_file(args: argparse.Namespace) -> str | None:
    """The label file of the command line: --label_file, else --set MODEL.label_file; None if not given."""
    from videotag.config_file import last_values, parse_overrides

    given = args.label_file
    if given is None:
        given = last_values(parse_overrides(args.set)).get("MODEL.label_file")
    return given if isinstance(given, str) else None  # load_config refuses what is no text


def join_processes() -> None:
    """Joins the distributed group if there is one; all processes but the first then log only errors."""
    from videotag.inference import parallel

    parallel.join()
    if not parallel.is_main():
        logging.getLogger("videotag").setLevel(logging.ERROR)


def show(text: str, *, end: str = "\n") -> None:
    """Prints to stdout; if its reader has closed it (`| head`), discards this and all further output.

    Raises:
        OutputError: Writing to stdout failed, for example on a full disk.
    """
    try:
        print(text, end=end, flush=True)
    except BrokenPipeError:
        mute_stdout()
    except OSError as error:
        mute_stdout()  # otherwise, flushing the buffer at exit would fail again
        raise OutputError(
            f"standard output: cannot write ({error.strerror}); free space there, or redirect it elsewhere"
        ) from error


def json_text(value: Any, *, indent: int | None = None) -> str:
    """JSON for stdout, with non-ASCII letters as they are and terminal control characters escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    if text.isprintable():
        return text
    return "".join(c if c == "\n" or is_plain(c) else json.dumps(c)[1:-1] for c in text)


def mute_stdout() -> None:
    """Redirects stdout to the null device, including output that Python flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def find_checkpoint(
    weights: str | None, *, default: str = DEFAULT_WEIGHTS, published: str | None = None
) -> FoundWeights:
    """The weight file of --weights; if it is not given, the default, else the published weights.

    Args:
        weights: Value of --weights; None if it is not given.
        default: Path that is tried if --weights is not given.
        published: Name of weights to download if the default does not exist; None for none.

    Raises:
        WeightsError: The file does not exist; for the default, the message says how to create it.
    """
    from videotag.formats.weight_files import resolve_weights
    from videotag.weights import FoundWeights, find_weights

    if weights is not None:
        return find_weights(weights)
    try:
        return FoundWeights(resolve_weights(default))
    except WeightsError as missing:
        if published is None:
            raise WeightsError(
                f"{default}.pdparams: no such file; train first (train.py writes it in its tenth epoch), "
                "or give --weights"
            ) from missing
    try:
        logger.info("no weights at %s: using the published ones, %s", default, published)
        return find_weights(published)
    except WeightsError as error:
        raise WeightsError(
            f"{default}: no such weights; give --weights. The published ones: {error}"
        ) from error


def find_checkpoints(weights: str | None, *, published: str | None = None) -> list[FoundWeights]:
    """The weight files of --weights, one or several separated by commas; see find_checkpoint.

    A folder of `videotag fit` stands for its models.

    Raises:
        ConfigError: A name before or after a comma is empty.
        WeightsError: A file does not exist.
    """
    from videotag.inference.fit_folder import FitFolder, is_fit_folder

    parts = [weights] if weights is None or _is_one_path(weights) else weights.split(",")
    if len(parts) > 1 and not all(parts):
        raise ConfigError(f"--weights={weights}: a comma without weights on both sides; remove it")
    members: list[str | None] = []
    for part in parts:
        is_fit = part is not None and is_fit_folder(part)
        members += map(str, FitFolder(str(part)).models) if is_fit else [part]
    return [find_checkpoint(part, published=published) for part in members]


def read_model(args: argparse.Namespace, flags: dict[str, Any], found: list[FoundWeights]) -> TrainedModel:
    """The model of one or several weights.

    Args:
        args: Arguments with the flags of add_model_arguments.
        flags: Values of the command's own flags, see overrides; they apply to all configs.
        found: Weights, see find_checkpoints.

    Raises:
        ConfigError: There are several weights, and --config is given, one has no config, or their configs
            are incompatible.
    """
    from videotag.inference.trained_model import TrainedModel

    if len(found) == 1:
        return TrainedModel([read_source(args, flags, found[0])])
    if args.config:
        raise ConfigError(f"--config={args.config}: each of several --weights has its own; leave it out")
    sources: list[ModelSource] = []
    for weights in found:
        device = {"TRAIN.use_gpu": sources[0].config.train.use_gpu} if sources else {}
        sources.append(read_source(args, {**flags, **device}, weights, default=None))
    return TrainedModel(sources)


def model_files(args: argparse.Namespace, model: TrainedModel) -> list[str | Path | None]:
    """The files that predict and eval read besides their samples: weights, configs and class names.

    Args:
        args: Arguments with the flags of add_model_arguments and --label_file.
        model: Model, see read_model.
    """
    from videotag.runtime.exported import files_read_with
    from videotag.system.resources import find_resource

    files: list[str | Path | None] = [label_file(args), DEFAULT_LABEL_FILE]
    for source in model.sources:
        files += files_read_with(source.weights)
        files.append(find_resource(args.config or source.weights.config or DEFAULT_CONFIG))
        files.append(source.config.model.label_file)
    return files


def check_readable(path: str) -> Path:
    """Checks that a path exists, and returns it.

    Raises:
        ConfigError: The path does not exist.
    """
    if not Path(path).exists():
        raise ConfigError(f"{path}: no such file or folder; check the path")
    return Path(path)


def _is_one_path(weights: str) -> bool:
    """Whether a text that may contain commas is the path of one weight file."""
    from videotag.formats.weight_files import resolve_weights

    if "," not in weights or Path(weights).exists():
        return True
    try:
        return resolve_weights(weights) is not None
    except WeightsError:
        return False


def videos_in(path: str) -> tuple[list[str], str | None]:
    """The video at `path`, or all videos below a folder, sorted by name.

    Returns:
        The paths, and a message about skipped files of the folder, None if there are none.

    Raises:
        ConfigError: The path does not exist, or the folder contains no video.
    """
    from videotag.inputs.frames import find_videos

    found = find_videos(check_readable(path))
    return found.paths, found.left_out
