r"""Tags videos with both stages, without intermediate files.

    videotag tag any.mp4
    videotag tag clips/ --extractor_config=configs/tsn.yaml --extractor_weights=weights/tsn \
        --predictor_weights=data/checkpoints/AttentionLSTM_best --label_file=my_labels.txt

Without a model, it predicts ImageNet's 1,000 classes, offline and without further downloads, and says that it
is not sure where the best class has a probability below 0.15.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videotag.cli import arguments, values
from videotag.cli.tables import best_guess, tags_table
from videotag.errors import EXIT_FAILURES, EXIT_OK, ConfigError, MediaError
from videotag.labels import LANGUAGES
from videotag.safe_text import escaped
from videotag.system.atomic import check_writable
from videotag.system.progress import track

if TYPE_CHECKING:
    from videotag.formats.predictions import Format
    from videotag.inference.tag_result import TagResult

SUMMARY = "tag videos with both stages"
DEFAULT_NOTE = (
    "tags are ImageNet's 1,000 classes: objects and animals seen in frames, but hardly any scenes or people, "
    "and no actions or topics; `videotag fit` trains tags of your own"
)
logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `videotag tag`."""
    parser.add_argument("paths", nargs="+", metavar="PATH", help="videos, or folders of videos")
    parser.add_argument(
        "--weights",
        help="weights or an export of either stage, or of a model that reads frames itself; the first stage "
        "of a tagger is then EfficientNet-Lite0, or --extractor_weights",
    )
    parser.add_argument("--extractor_config", help="YAML of the first stage")
    parser.add_argument("--extractor_weights", help="weights of the first stage, or an export")
    parser.add_argument(
        "--predictor_config", help="YAML of the second stage (default: the one beside its weights)"
    )
    parser.add_argument(
        "--predictor_weights",
        help="weights or an export of the second stage (default: none, the first stage tags alone)",
    )
    parser.add_argument("--label_file", help="class names (default: those beside the weights)")
    parser.add_argument(
        "--language",
        choices=LANGUAGES,
        help="language of ImageNet's class names, without weights of your own: %(choices)s (default: en)",
    )
    parser.add_argument(
        "--infer_topk", type=values.natural, help="maximum number of tags (default: MODEL.topk)"
    )
    parser.add_argument("--threshold", type=values.fraction, help="minimum probability of a tag (default: 0)")
    parser.add_argument(
        "--segment_sec",
        type=float,
        help="length of a segment in seconds, each with at least 4 sampled frames (default: 5)",
    )
    parser.add_argument(
        "--segments",
        choices=("equal", "shots"),
        default="equal",
        help="segments of equal length, or shots, which are then found (default: %(default)s)",
    )
    parser.add_argument(
        "--seg_num", type=values.natural, help="frames sampled per video (default: INFER.seg_num)"
    )
    parser.add_argument("--batch_size", type=values.natural, help="videos decoded concurrently")
    parser.add_argument("--use_gpu", type=values.boolean_or_auto, help="True, False or auto (default: auto)")
    arguments.add_runtime_arguments(parser)
    parser.add_argument(
        "--find",
        metavar="KINDS",
        help="also find, with times, any of: shots, text, speech, sound; comma-separated",
    )
    parser.add_argument(
        "--speech_model", help="CTranslate2 folder of Whisper (default: the base model of videotag[speech])"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--quiet",
        action="store_true",
        help="print no tags, only progress on stderr (with --save_dir or --report)",
    )
    parser.add_argument("--save_dir", help="also write SAVE_DIR/predictions.<format>")
    parser.add_argument(
        "--format", choices=("json", "jsonl", "csv"), help="format of the file in --save_dir (default: json)"
    )
    parser.add_argument(
        "--report", metavar="OUT.html", help="also write a page with thumbnails, tags and attention"
    )
    arguments.add_overwrite(parser)


def run(args: argparse.Namespace) -> int:
    """Tags every video and prints the tags; returns 1 if some videos failed."""
    from videotag.formats.predictions import prediction_writer, predictions_file
    from videotag.inference.frame_tagging import SEGMENT_SEC
    from videotag.inference.tagger import Tagger
    from videotag.reports.tags_report import write_report

    _check_flags(args)
    found = [arguments.videos_in(path) for path in args.paths]
    paths = [video for videos, _ in found for video in videos]
    overrides = [("INFER.seg_num", args.seg_num), ("INFER.batch_size", args.batch_size)]
    file_format: Format = args.format or "json"
    _check_places(args, paths, file_format)
    segment_sec = SEGMENT_SEC if args.segment_sec is None else args.segment_sec
    tagger = Tagger.load(
        weights=args.weights,
        extractor_config=args.extractor_config,
        extractor_weights=args.extractor_weights,
        predictor_config=args.predictor_config,
        predictor_weights=args.predictor_weights,
        label_file=args.label_file,
        language=args.language,
        use_gpu=args.use_gpu,
        backend=args.backend,
        precision=args.precision,
        overrides=[(key, value) for key, value in overrides if value is not None],
        top_k=args.infer_topk,
        threshold=args.threshold or 0.0,
        segment_sec=segment_sec,
        segments=args.segments,
        find=_names(args.find),
        speech_model=args.speech_model,
    )
    if tagger.is_default:
        logger.info("%s", DEFAULT_NOTE)
    tagger.select_runtime(paths)
    guesses = args.threshold is not None or args.infer_topk is not None
    results: list[dict[str, Any]] = []
    failed = 0
    tagged = tagger.tag_many(paths)
    if args.json or args.quiet or not sys.stdout.isatty():  # tags on a terminal are progress enough
        tagged = track(tagged, "tag", len(paths))
    for result in tagged:
        if isinstance(result, MediaError):
            failed += 1
            logger.warning("failed: %s", result)
            continue
        if result.warning:
            logger.warning("%s", result.warning)
        results.append(result.to_dict())
        if not (args.json or args.quiet):
            shown = tags_table(results[-1], guesses=guesses) + _segment_lines(results[-1], guesses=guesses)
            arguments.show(shown + _finding_lines(result))
    if args.json:
        arguments.show(arguments.json_text(results, indent=2))
    if args.save_dir:
        path = Path(args.save_dir) / predictions_file(file_format)
        with prediction_writer(path, file_format) as write:
            for prediction in results:
                write(prediction)
        logger.info("written: %s", path)
    if args.report:
        write_report(args.report, results)
        logger.info("report: %s", args.report)
    has_target = args.segments == "equal"
    if has_target and (note := segments_note(results, segment_sec, is_given=args.segment_sec is not None)):
        logger.warning("%s", note)
    for _, left_out in found:
        if left_out:
            logger.info("%s", left_out)
    return EXIT_FAILURES if failed else EXIT_OK


def _names(text: str | None) -> list[str]:
    """The comma-separated names, each once."""
    names = (name.strip() for name in (text or "").split(","))
    return list(dict.fromkeys(name for name in names if name))


def _check_flags(args: argparse.Namespace) -> None:
    if args.speech_model and "speech" not in _names(args.find):
        raise ConfigError("--speech_model: has no effect without --find=speech")
    if args.find is not None and not _names(args.find):
        raise ConfigError("--find: expected some of shots, text, speech, sound")
    if args.segment_sec is not None and args.segments == "shots":
        raise ConfigError("--segment_sec: has no effect with --segments=shots; leave one of them out")
    if args.segment_sec is not None and not 0 < args.segment_sec < float("inf"):  # also rejects NaN
        raise ConfigError(f"--segment_sec {args.segment_sec}: expected a length above 0 seconds")
    if args.quiet and args.json:
        raise ConfigError("--quiet and --json: one prints nothing, the other JSON; give one of them")
    if args.format and not args.save_dir:
        raise ConfigError(f"--format={args.format}: has no effect without --save_dir; give it, or --json")


def _check_places(args: argparse.Namespace, paths: list[str], file_format: Format) -> None:
    """Checks before any work that all outputs can be written and replace nothing else."""
    from videotag.formats.predictions import HEADS, predictions_file
    from videotag.inference.outputs import FileOutput, check_files
    from videotag.reports.tags_report import PAGE_HEAD

    if args.report and Path(args.report).is_dir():
        raise ConfigError(f"--report {args.report}: a folder, expected a file such as report.html")
    outputs = []
    if args.save_dir:
        path = Path(args.save_dir) / predictions_file(file_format)
        outputs.append(FileOutput(path, "--save_dir", HEADS[file_format]))
    if args.report:
        outputs.append(FileOutput(Path(args.report), "--report", PAGE_HEAD))
    if outputs:
        check_files(outputs, inputs=[*paths, args.label_file, *_model_files(args)], overwrite=args.overwrite)
    if args.save_dir:
        check_writable(Path(args.save_dir))
    if args.report:
        check_writable(Path(args.report).parent)


def _model_files(args: argparse.Namespace) -> list[Path]:
    """The files of both stages' models."""
    from videotag.config_file import files_of_config
    from videotag.inference.fit_folder import FIT_FILE, FitFolder, is_fit_folder
    from videotag.runtime.exported import files_read_with
    from videotag.weights import find_weights

    files = []
    named = list(filter(None, (args.weights, args.extractor_weights, args.predictor_weights)))
    if args.weights and is_fit_folder(args.weights):
        fitted = FitFolder(args.weights)
        named.remove(args.weights)
        named += map(str, filter(None, [*fitted.models, fitted.extractor_weights]))
        files.append(fitted.folder / FIT_FILE)
    for weights in named:
        files += files_read_with(find_weights(weights))
    for config in filter(None, (args.extractor_config, args.predictor_config)):
        files += files_of_config(config)
    return files


def segments_note(results: list[dict[str, Any]], segment_sec: float, *, is_given: bool) -> str | None:
    """What kept the segments from being about segment_sec long, with the remedy; None if nothing did.

    Args:
        results: Dicts from TagResult.to_dict.
        segment_sec: Requested length of a segment in seconds.
        is_given: Whether the user requested it; otherwise, videos shorter than a segment are no problem.
    """
    from videotag.inference.frame_tagging import MIN_FRAMES_PER_SEGMENT, num_segments

    asked = f"--segment_sec={segment_sec:g}" if is_given else f"segments of {segment_sec:g} s"
    widened, short, whole = [], [], []
    for result in results:
        segments, name = result["segments"], escaped(result["video_id"])
        if not segments:
            whole.append(name)
            continue
        covered_sec = segments[-1]["end_sec"]
        wanted = num_segments(covered_sec, segment_sec)
        if len(segments) < wanted:
            widened.append((wanted, covered_sec / len(segments), name))
        elif covered_sec < segment_sec:
            short.append((covered_sec, name))
    if widened:
        wanted, used_sec, name = max(widened)
        return (
            f"{asked}: too few frames are sampled from {len(widened)} of {len(results)} videos for segments "
            f"of that length; those of {name} are {used_sec:.4g} s long; give "
            f"--seg_num={wanted * MIN_FRAMES_PER_SEGMENT} or a larger --segment_sec"
        )
    if is_given and short:
        covered_sec, name = max(short)
        return (
            f"{asked}: longer than {len(short)} of {len(results)} videos, each of which is one segment; "
            f"{name} is {covered_sec:.4g} s long; give a smaller --segment_sec"
        )
    if is_given and whole:
        return (
            f"{asked}: no segments in {len(whole)} of {len(results)} videos, such as {whole[0]}: the model "
            "tags whole videos, or the video has fewer frames than are sampled; leave it out, or give a "
            "smaller --seg_num"
        )
    return None


def _segment_lines(result: dict[str, Any], *, guesses: bool) -> str:
    """One line per segment with its tags; empty for a single segment.

    Args:
        result: Dict from TagResult.to_dict.
        guesses: Whether to show all tags of a segment that is marked as not sure.
    """
    if len(result["segments"]) < 2:
        return ""
    lines = []
    for segment in result["segments"]:
        tags = ", ".join(f"{escaped(tag['class_name'])} {tag['probability']:.2f}" for tag in segment["tags"])
        tags = (None if guesses else best_guess(segment)) or tags
        lines.append(f"\n  {segment['start_sec']:8.2f} - {segment['end_sec']:.2f} s  {tags}")
    return "".join(lines)


def _finding_lines(result: TagResult) -> str:
    """One line per finding besides tags; empty if nothing was asked for."""
    lines = []
    for kind, found in result.findings.items():
        if found is None:
            lines.append(f"\n  {kind}: the file has no sound")
        elif not found:
            lines.append(f"\n  {kind}: none found")
        for one in found or []:
            text = f": {escaped(one.text)}" if one.text else ""
            lines.append(f"\n  {one.start_sec:8.2f} - {one.end_sec:.2f} s  {kind}{text}")
    return "".join(lines)
