"""Flags that several commands share, and how flags, weights and configs find each other."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from videotag.cli import values
from videotag.errors import EXIT_FAILURES, EXIT_OK, ConfigError, OutputError, WeightsError
from videotag.safe_text import escaped, is_plain

if TYPE_CHECKING:
    from videotag.config import Config
    from videotag.formats.filelist import ListEntry
    from videotag.inference.members import Member
    from videotag.inference.outputs import Destination, Summary
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
        choices=("auto", "paddle", "openvino", "onnx"),
        help="what runs the networks (default: INFER.backend, auto: the fastest that is installed and right)",
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
    args: argparse.Namespace, *, none_named: str, default_filelist: str | None = None, counted: bool = False
) -> ListedVideos:
    """The videos that the flags of add_list_arguments name.

    A file that the list names but that is not there is a failure of that video, not of the list.

    Args:
        args: with those flags.
        none_named: the file name where no list is given.
        default_filelist: the list where no flag names videos.
        counted: the videos are folders of frames, which only a list can count.

    Raises:
        ConfigError: both --video_path and --filelist, or neither, or --video_path for a counted list, or
            nothing is at --video_path.
        FileListError: as read_filelist.
    """
    from videotag.formats.filelist import ListEntry, read_filelist

    if args.video_path and args.filelist:
        raise ConfigError("--video_path and --filelist: give one of them")
    if args.video_path and counted:
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
    entries = read_filelist(filelist, must_exist=False, counted=counted)
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


def read_config(
    args: argparse.Namespace,
    flags: dict[str, Any],
    *,
    weights: FoundWeights | None = None,
    default: str = DEFAULT_CONFIG,
) -> Config:
    """The config of a command line: --config, else the one that belongs to the weights, else `default`.

    That of an export is read without the model's code.

    Args:
        args: with the flags of add_model_arguments.
        flags: dotted key -> value of the command's own flags; None for one that was not given.
        weights: the weights in use.
        default: a shipped config.

    Raises:
        ConfigError: as load_config.
    """
    from videotag.config import load_config, parse_overrides

    path = args.config or (weights.config if weights else None) or default
    overrides = parse_overrides(args.set)
    overrides += [
        (key, value) for key, value in {"TRAIN.use_gpu": args.use_gpu, **flags}.items() if value is not None
    ]
    if weights is not None and weights.is_export:
        from videotag.runtime.exported import export_config

        return export_config(
            weights.path, config_file=args.config, model_name=args.model_name, overrides=overrides
        )
    from videotag.models import load_models

    load_models()
    is_beside = not args.config and weights is not None and weights.config_is_beside
    return load_config(path, model_name=args.model_name, overrides=overrides, beside_weights=is_beside)


def label_file(args: argparse.Namespace) -> str | None:
    """What the command line says of class names: --label_file, or --set MODEL.label_file."""
    given = args.label_file
    for text in args.set:
        key, _, value = text.partition("=")
        if key.strip().lower() == "model.label_file" and given is None:
            given = value
    return given


def read_split(config: Config, split: str, *, labels: Literal["required", "optional"]) -> list[ListEntry]:
    """The list that the config's section `split` (TRAIN, VALID ...) names.

    Labels are not looked at in INFER's, which may belong to another label file.

    Raises:
        ConfigError: the section names no list.
        FileListError: as read_filelist.
    """
    filelist = getattr(config, split.lower()).filelist
    if not filelist:
        raise ConfigError(
            f"{split}.filelist: no list of files; set it in the config or with --set {split}.filelist=PATH "
            "(a config beside weights may name lists inside of the working folder alone)"
        )
    from videotag.formats.filelist import read_filelist

    counted = False
    if config.entry.kind == "extractor":
        from videotag.datasets.video_dataset import check_format

        # First of all: the number of frames stands where other lists have a label.
        check_format(read_filelist(filelist, must_exist=False), config.model.format)
        counted = config.model.format == "frames"
    return read_filelist(
        filelist,
        labels=labels,
        num_classes=None if split == "INFER" else config.model.num_classes,
        counted=counted,
    )


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


def read_members(args: argparse.Namespace, flags: dict[str, Any], found: list[FoundWeights]) -> list[Member]:
    """Weights with their configs, as read_config has them; several have been compared with each other.

    Args:
        args: with the flags of add_model_arguments.
        flags: see read_config; they hold for all configs.
        found: of find_checkpoints.

    Raises:
        ConfigError: several, and --config is given, one has no config, or they do not fit together.
    """
    from videotag.inference.members import Member, check_members

    if len(found) == 1:
        return [Member(found[0], read_config(args, flags, weights=found[0]))]
    if args.config:
        raise ConfigError(f"--config={args.config}: each of several --weights has its own; leave it out")
    members: list[Member] = []
    for weights in found:
        if weights.config is None:
            raise ConfigError(f"{weights.path}: no config belongs to it; put its config.yaml beside it")
        device = {"TRAIN.use_gpu": members[0].config.train.use_gpu} if members else {}
        members.append(Member(weights, read_config(args, {**flags, **device}, weights=weights)))
    check_members(members)
    return members


def model_files(args: argparse.Namespace, members: list[Member]) -> list[str | Path | None]:
    """What predict and eval read besides videos and features: weights, configs and class names.

    Args:
        args: with the flags of add_model_arguments, and --label_file.
        members: of read_members.
    """
    from videotag.runtime.exported import files_read_with
    from videotag.system.resources import find_resource

    files: list[str | Path | None] = [label_file(args), DEFAULT_LABEL_FILE]
    for member in members:
        files += files_read_with(member.weights)
        files.append(find_resource(args.config or member.weights.config or DEFAULT_CONFIG))
        files.append(member.config.model.label_file)
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

    The line is logged at once; commands show it again at their end. It is None if nothing was left out.

    Raises:
        ConfigError: nothing is there, or no video is in the folder.
    """
    from videotag.media.suffixes import folder_text, left_out_text, scan_folder

    if not check_readable(path).is_dir():
        return [path], None
    content = scan_folder(path)
    if not content.taken and not content.left_out:
        raise ConfigError(f"{path}: no videos in this folder or below it, nor other files; check the path")
    if not content.taken:
        raise ConfigError(
            f"{path}: no videos in this folder or below it, {left_out_text(content.left_out)}; "
            "if one of them is a video, give its own path"
        )
    videos = [str(video) for video in content.taken]
    if not content.left_out:
        return videos, None
    line = folder_text(path, len(videos), content.left_out)
    logger.info("%s", line)
    return videos, line
