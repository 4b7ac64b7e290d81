"""Flags that several commands share, and how flags, weights and configs find each other."""

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
from videotag.errors import EXIT_FAILURES, EXIT_OK, ConfigError, OutputError, WeightsError
from videotag.safe_text import escaped, is_plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from videotag.config import Config
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
    """The videos of a command that works through a list.

    Attributes:
        entries: Videos, in the order of the list or by name.
        list_name: File name for the list of results.
        left_out: Line about files of a folder that are not among the videos; None if there are none.
        filelist: The list; None if there is none.
    """

    entries: list[ListEntry]
    list_name: str
    left_out: str | None = None
    filelist: str | None = None


def add_switch(parser: argparse.ArgumentParser, flag: str, *, help: str) -> None:
    """A flag that is off unless it is given, alone or with True or False behind it."""
    parser.add_argument(flag, type=values.boolean, nargs="?", const=True, default=False, help=help)


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """--overwrite, of commands that would else replace nothing but their own outputs."""
    add_switch(
        parser,
        "--overwrite",
        help="replace what other inputs or programs have left at the places of the outputs; inputs never are",
    )


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """--model_name, --config, --set and --use_gpu."""
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
    auto_precision: str = "bf16 where this CPU gains by it and results stay close to f32",
) -> None:
    """--backend and --precision: where and how exactly networks run.

    Args:
        parser: of the command.
        auto_precision: what the command takes by itself, for the help.
    """
    parser.add_argument(
        "--backend",
        choices=values.BackendNames("auto"),
        metavar="BACKEND",
        help="what runs the networks, of %(choices)s (default: INFER.backend, auto: the fastest that is "
        "installed and right)",
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "f32", "bf16", "f16"),
        help=f"default: INFER.precision, auto: {auto_precision}; f16: on a GPU",
    )


def runtime_flags(args: argparse.Namespace) -> dict[str, str | None]:
    """The values of add_runtime_arguments by config key; None where a flag was not given."""
    return {"INFER.backend": args.backend, "INFER.precision": args.precision}


def add_list_arguments(
    parser: argparse.ArgumentParser, *, default_filelist: str | None, default_save_dir: str
) -> None:
    """--filelist, --video_path, --save_dir, --root, --overwrite, --log_interval: of commands over a list."""
    default = f" (default: {default_filelist})" if default_filelist else ""
    parser.add_argument("--filelist", help=f"videos, a line each{default}")
    parser.add_argument("--video_path", help="a video, or a folder of videos, in place of --filelist")
    parser.add_argument("--save_dir", default=default_save_dir, help="default: %(default)s")
    parser.add_argument("--root", help="folder that absolute paths are mirrored relative to")
    add_overwrite(parser)
    parser.add_argument(
        "--log_interval", type=values.natural, default=1, help="videos between log lines (default: 1)"
    )


def listed_videos(
    args: argparse.Namespace,
    *,
    none_named: str,
    default_filelist: str | None = None,
    numbers: Sequence[str] = (),
) -> ListedVideos:
    """The videos that the flags of add_list_arguments name.

    A file that the list names but that is not there is a failure of that video, not of the list.

    Args:
        args: with those flags.
        none_named: the file name where no list is given.
        default_filelist: the list where no flag names videos.
        numbers: As of read_filelist; those of folders of frames only a list can tell.

    Raises:
        ConfigError: both --video_path and --filelist, or neither, or --video_path for folders of frames, or
            nothing is at --video_path.
        FileListError: as read_filelist.
    """
    from videotag.formats.filelist import ListEntry, read_filelist

    if args.video_path and args.filelist:
        raise ConfigError("--video_path and --filelist: give one of them")
    if args.video_path and numbers:
        raise ConfigError(
            "--video_path: MODEL.format is frames, folders counted in a list; give --filelist, the one that "
            "`videotag frames` writes, or --set MODEL.format=video"
        )
    if args.video_path:
        paths, left_out = videos_in(args.video_path)
        return ListedVideos([ListEntry(path) for path in paths], none_named, left_out)
    filelist = args.filelist or default_filelist
    if not filelist:
        raise ConfigError("no videos; give --filelist with a list of them, or --video_path")
    entries = read_filelist(filelist, must_exist=False, numbers=numbers)
    return ListedVideos(entries, f"{Path(filelist).stem}.list", filelist=filelist)


def destination(args: argparse.Namespace, videos: ListedVideos) -> Destination:
    """Where the outputs of a command go that works through a list.

    Args:
        args: With the flags of add_list_arguments.
        videos: Videos that the run was given.
    """
    from videotag.inference.outputs import Destination

    root = Path(args.root) if args.root else None
    return Destination(Path(args.save_dir), videos.list_name, root, videos.filelist, args.overwrite)


def print_summary(summary: Summary, videos: ListedVideos, save_dir: Path, *, done: str, listed: str) -> int:
    """Prints what became of a list of videos, and returns the exit code.

    Args:
        summary: of the run.
        videos: Videos that the run was given.
        save_dir: of the run.
        done: what was done to a video.
        listed: what the list of results is called.
    """
    from videotag.system.failures import FAILURES_FILE

    show(
        f"{done} {summary.written} (in part {len(summary.partial)}), kept {summary.kept}, "
        f"failed {len(summary.failed)}"
    )
    if videos.left_out:
        show(escaped(videos.left_out))
    if summary.list_path:
        show(f"{listed}: {summary.list_path}")
    if summary.failed:
        show(f"failures: {save_dir / FAILURES_FILE}")
        return EXIT_FAILURES
    return EXIT_OK


def overrides(args: argparse.Namespace, flags: dict[str, Any]) -> list[tuple[str, Any]]:
    """What the command line says of config keys, as load_config takes it; later ones win.

    Args:
        args: With the flags of add_model_arguments.
        flags: Dotted key -> value of the command's own flags; None for one that was not given.

    Raises:
        ConfigError: As parse_overrides.
    """
    from videotag.config import parse_overrides

    named = {"TRAIN.use_gpu": args.use_gpu, **flags}
    return parse_overrides(args.set) + [(key, value) for key, value in named.items() if value is not None]


def read_config(args: argparse.Namespace, flags: dict[str, Any], *, default: str = DEFAULT_CONFIG) -> Config:
    """The config of a command line without weights: --config, else `default`.

    Args:
        args: With the flags of add_model_arguments.
        flags: As of overrides.
        default: A shipped config.

    Raises:
        ConfigError: As load_config.
    """
    from videotag.config import load_config
    from videotag.models import load_models
    from videotag.runtime.backends import check_name

    load_models()
    path = args.config or default
    config = load_config(path, model_name=args.model_name, overrides=overrides(args, flags))
    check_name(config.infer.backend, where=f"{path}: INFER.backend")
    return config


def read_source(
    args: argparse.Namespace,
    flags: dict[str, Any],
    weights: FoundWeights,
    *,
    default: str | None = DEFAULT_CONFIG,
) -> ModelSource:
    """Weights with their config: --config, else the one that belongs to the weights, else `default`.

    Args:
        args: With the flags of add_model_arguments.
        flags: As of overrides.
        weights: The weights in use.
        default: A shipped config.

    Raises:
        ConfigError: As load_config.
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
    """What the command line says of class names: --label_file, or --set MODEL.label_file."""
    given = args.label_file
    for text in args.set:
        key, _, value = text.partition("=")
        if key.strip().lower() == "model.label_file" and given is None:
            given = value
    return given


def join_processes() -> None:
    """Joins the processes that a launcher started with this one; all but the first say nothing but errors."""
    from videotag.inference import parallel

    parallel.join()
    if not parallel.is_main():
        logging.getLogger("videotag").setLevel(logging.ERROR)


def show(text: str, *, end: str = "\n") -> None:
    """Prints to stdout; when its reader has gone (`| head`), the command goes on in silence.

    Raises:
        OutputError: stdout cannot be written, as on a full disk.
    """
    try:
        print(text, end=end, flush=True)
    except BrokenPipeError:
        mute_stdout()
    except OSError as error:
        mute_stdout()  # what waits in the buffer would fail again when Python ends
        raise OutputError(
            f"standard output: cannot write ({error.strerror}); free space there, or send it elsewhere"
        ) from error


def json_text(value: Any, *, indent: int | None = None) -> str:
    """JSON for stdout: letters as they are, escapes for all characters that may steer a terminal."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    if text.isprintable():
        return text
    return "".join(c if c == "\n" or is_plain(c) else json.dumps(c)[1:-1] for c in text)


def mute_stdout() -> None:
    """Lets further output vanish, also what Python flushes when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def find_checkpoint(
    weights: str | None, *, default: str = DEFAULT_WEIGHTS, published: str | None = None
) -> FoundWeights:
    """The weight file that --weights names; if it names none, the default, else the published one.

    Args:
        weights: as the user named them; None if not.
        default: where the command looks by itself.
        published: named weights that are downloaded if the default is not there.

    Raises:
        WeightsError: there is none; for the default the text says how to make or get it.
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
        logger.info("no weights at %s: taking the published ones, %s", default, published)
        return find_weights(published)
    except WeightsError as error:
        raise WeightsError(
            f"{default}: no such weights; give --weights. Of the published ones: {error}"
        ) from error


def find_checkpoints(weights: str | None, *, published: str | None = None) -> list[FoundWeights]:
    """The weight files that --weights names, several of them parted by commas; as find_checkpoint.

    Raises:
        ConfigError: nothing stands before, between or behind commas.
        WeightsError: as find_checkpoint.
    """
    parts = [weights] if weights is None or _is_one_path(weights) else weights.split(",")
    if len(parts) > 1 and not all(parts):
        raise ConfigError(f"--weights={weights}: a comma without weights on either side; remove it")
    return [find_checkpoint(part, published=published) for part in parts]


def read_model(args: argparse.Namespace, flags: dict[str, Any], found: list[FoundWeights]) -> TrainedModel:
    """The model of one or several weights.

    Args:
        args: With the flags of add_model_arguments.
        flags: As of overrides; they hold for all configs.
        found: Of find_checkpoints.

    Raises:
        ConfigError: Several, and --config is given, one has no config, or they do not fit together.
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
    """What predict and eval read besides videos and features: weights, configs and class names.

    Args:
        args: With the flags of add_model_arguments, and --label_file.
        model: Of read_model.
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
    """`path` if it is there.

    Raises:
        ConfigError: nothing is there.
    """
    if not Path(path).exists():
        raise ConfigError(f"{path}: no such file or folder; check the path")
    return Path(path)


def _is_one_path(weights: str) -> bool:
    """Whether a text with commas names weights as it is written."""
    from videotag.formats.weight_files import resolve_weights

    if "," not in weights or Path(weights).exists():
        return True
    try:
        return resolve_weights(weights) is not None
    except WeightsError:
        return False


def videos_in(path: str) -> tuple[list[str], str | None]:
    """The video at `path`, or all videos below a folder, by name; and a line about files left out of it.

    Raises:
        ConfigError: Nothing is there, or no video is in the folder.
    """
    from videotag.inputs.frames import find_videos

    found = find_videos(check_readable(path))
    return found.paths, found.left_out
