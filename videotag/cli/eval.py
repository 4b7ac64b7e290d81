"""Evaluates a model on the list of its config's TEST section: GAP, Hit@1, PERR, mAP, or top-1, top-5 and mAP.

    python eval.py --model_name=AttentionLSTM --weights=data/checkpoints/AttentionLSTM_epoch9
    python eval.py --weights=data/checkpoints --report=eval.html --video_root=clips

Writes the printed metrics to SAVE_DIR/metrics.json, and a row per class to SAVE_DIR/per_class.csv.
mean_ap_head, mean_ap_middle and mean_ap_tail are the mAP of the most frequent, middle and rarest third of the
list's classes (column `group` of per_class.csv); omitted for fewer than 3 classes. top5 is omitted unless the
model has more than 5 classes. --report writes a page with both, learning curves if train_log.jsonl lies
beside the weights, precision-recall curves, confusions and the worst mistakes; its figures need
`pip install 'videotag[report]'`.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from videotag.cli import arguments, values
from videotag.cli.tables import metrics_table
from videotag.errors import EXIT_FAILURES, EXIT_OK, ConfigError, FileListError, LabelFileError, one_error
from videotag.system.cores import is_launched

if TYPE_CHECKING:
    from videotag.config import Config
    from videotag.datasets.batches import Dataset
    from videotag.formats.filelist import ListEntry
    from videotag.formats.train_log import TrainLog
    from videotag.inference.trained_model import TrainedModel
    from videotag.registry import Task
    from videotag.reports.eval_report import Observed

SHARES_WORK = True  # supports paddle.distributed.launch
SUMMARY = "evaluate a tagger or a TSN on a labeled list"
METRICS_FILE = "metrics.json"
_METRICS_HEAD = re.compile(r'\{\s*"(hit_at_one|top1)": ')
PER_CLASS_FILE = "per_class.csv"
DEFAULT_MISTAKES = 20
DEFAULT_THRESHOLD = 0.5
_NO_LABELS = "no video has a label, so there is nothing to evaluate"
Item = TypeVar("Item")
logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `videotag eval`."""
    arguments.add_model_arguments(parser)
    parser.add_argument(
        "--weights",
        help=f"default: {arguments.DEFAULT_WEIGHTS}; A,B,C: the mean of several taggers' probabilities",
    )
    parser.add_argument("--filelist", help="a labeled list, instead of TEST.filelist")
    parser.add_argument("--batch_size", type=values.natural)
    arguments.add_runtime_arguments(parser, auto_precision="f32, so that metrics are comparable")
    parser.add_argument("--save_dir", default="./data/evaluate_results", help="default: %(default)s")
    parser.add_argument(
        "--log_interval", type=values.natural, default=1, help="batches per log line (default: 1)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--threshold",
        type=values.fraction,
        help="minimum probability of a tag, for precision and recall per class (default: 0.5)",
    )
    parser.add_argument(
        "--label_file",
        help="class names, one per line, or YouTube-8M's vocabulary.csv (default: those beside the weights, "
        f"else {arguments.DEFAULT_LABEL_FILE})",
    )
    parser.add_argument("--report", metavar="HTML", help="also write a page with pictures and mistakes")
    arguments.add_overwrite(parser)
    parser.add_argument(
        "--mistakes",
        type=values.whole,
        help=f"videos of the highest loss in the report (default: {DEFAULT_MISTAKES})",
    )
    parser.add_argument(
        "--video_root",
        help="folder of the videos, for thumbnails in the report: out/clips/a.npy is searched as "
        "out/clips/a.mp4, clips/a.mp4 and a.mp4 in it",
    )


def run(args: argparse.Namespace) -> int:
    """Writes metrics.json and per_class.csv to SAVE_DIR and the optional report, and prints the metrics."""
    from videotag.formats.train_log import LOG_FILE
    from videotag.inference.data import check_inputs, evaluation_batches, read_section_list
    from videotag.inference.evaluate import evaluate
    from videotag.inference.parallel import all_gather, is_main
    from videotag.system.atomic import check_writable

    _check_report_flags(args)
    arguments.join_processes()
    found = arguments.find_checkpoints(args.weights)
    flags = {
        "TEST.batch_size": args.batch_size,
        "TEST.filelist": args.filelist,
        **arguments.runtime_flags(args),
    }
    model = arguments.read_model(args, flags, found).for_evaluation()
    config = model.config
    _check_list_of_fit(args, config)
    entries = read_section_list(config, "TEST", labels="optional")
    save_dir = Path(args.save_dir)
    logs = [weights.path.parent / LOG_FILE for weights in found]
    files = [config.test.filelist, *logs, *arguments.model_files(args, model)]
    _check_places(args, [*files, *(entry.path for entry in entries)])
    dataset = _dataset(config, entries)
    # A given label file is checked before any work, a default one after the weights are.
    class_names = _class_names(args, model) if arguments.label_file(args) else None
    observed = _observed(args, config.task)
    check_writable(save_dir)
    if args.report:
        check_writable(Path(args.report).parent)
    model.load_network()
    check_inputs(config, config.test, model.inputs)
    class_names = class_names or _class_names(args, model)
    failed: list[str] = []
    batches = evaluation_batches(dataset, config.test, on_error=lambda _, error: failed.append(str(error)))
    num_batches = -(-len(dataset) // config.test.batch_size)
    metrics = evaluate(
        model.run,
        _logged(batches, num_batches, args.log_interval),
        task=config.task,
        observers=list(vars(observed).values()) if args.report else [observed.per_class],
    )
    failed = [text for part in all_gather(failed) for text in part]
    _check_metrics(metrics, failed, config.test.filelist)
    if not is_main():
        return EXIT_OK  # the launcher ends all processes at the first non-zero code
    baseline = None
    if args.report and not is_launched():
        from videotag.fit.baseline import baseline_metrics

        again = evaluation_batches(dataset, config.test, on_error=lambda *_: None)
        baseline = baseline_metrics(config, again)
    _write_results(args, metrics, observed, class_names, model, baseline)
    if failed:
        logger.warning("failed: %d of %d", len(failed), len(dataset))
        for text in failed:
            logger.warning("%s", text)
        return EXIT_FAILURES
    return EXIT_OK


def _check_list_of_fit(args: argparse.Namespace, config: Config) -> None:
    """Checks that the list of a folder of `videotag fit` exists.

    A folder that was moved names the old place, and no absolute path is read from a config beside weights.

    Raises:
        FileListError: It does not exist.
    """
    from videotag.inference.fit_folder import is_fit_folder

    filelist, weights = config.test.filelist, args.weights
    if args.filelist or not weights or not is_fit_folder(weights):
        return
    if not filelist or not Path(filelist).is_file():
        raise FileListError(
            f"{filelist or 'TEST.filelist'}: no such file below the working folder {Path.cwd()}; the fit was "
            "moved, ran in another folder, or had an absolute --save_dir; give "
            f"--filelist={Path(weights) / 'test.list'} with paths that exist from here"
        )


def _check_metrics(metrics: Mapping[str, Any], failed: Sequence[str], filelist: str | None) -> None:
    """Checks that a labeled video was evaluated, as metrics would be zeros otherwise.

    Raises:
        FileListError: There is none; the message also has a line per video that cannot be read.
    """
    if not metrics["num_videos"]:
        raise one_error(FileListError, [f"{filelist}: no video can be read; correct the list", *failed])
    if metrics["num_videos"] == metrics.get("num_without_labels"):
        problem = f"{filelist}: {_NO_LABELS}; the test part of YouTube-8M has none"
        raise one_error(FileListError, [problem, *failed])


def _write_results(
    args: argparse.Namespace,
    metrics: Mapping[str, Any],
    observed: Observed,
    class_names: list[str] | None,
    model: TrainedModel,
    baseline: Mapping[str, Any] | None,
) -> None:
    """Writes metrics, the per-class table and the optional report, and prints the metrics."""
    from videotag.inference.evaluate import BEST_METRIC
    from videotag.metrics import mean_ap_by_group
    from videotag.reports.eval_report import write_eval_report, write_per_class
    from videotag.system.atomic import write_text

    save_dir = Path(args.save_dir)
    per_class = observed.per_class.compute()
    metrics = {**metrics, **mean_ap_by_group(per_class)}
    text = json.dumps(metrics, indent=2)
    write_text(save_dir / METRICS_FILE, text + "\n")
    write_per_class(save_dir / PER_CLASS_FILE, per_class, class_names)
    if args.report:
        write_eval_report(
            args.report,
            metrics,
            observed,
            class_names=class_names,
            video_root=args.video_root,
            **_page_texts(model),
            train_logs=_train_logs(model),
            best_metric=BEST_METRIC[model.task],
            baseline=baseline,
        )
    print(text if args.json else metrics_table(metrics))
    written = [save_dir / METRICS_FILE, save_dir / PER_CLASS_FILE, *([args.report] if args.report else [])]
    logger.info("written: %s", ", ".join(map(str, written)))


def _page_texts(model: TrainedModel) -> dict[str, str]:
    """Title and note of the report."""
    filelist = str(model.config.test.filelist)
    paths = [str(source.weights.path) for source in model.sources]
    name = model.config.entry.name if len(paths) == 1 else f"the mean of {len(paths)} taggers"
    return {
        "title": f"Evaluation of {name} on {Path(filelist).name}",
        "note": f"Weights: {', '.join(paths)}. List: {filelist}.",
    }


def _train_logs(model: TrainedModel) -> dict[str, TrainLog]:
    """The log of the training by the folder of its weights, for the weights that have one beside them."""
    from videotag.formats.train_log import read_train_log

    folders = dict.fromkeys(source.weights.path.parent for source in model.sources)
    found = {str(folder): read_train_log(folder) for folder in folders}
    return {folder: log for folder, log in found.items() if log is not None}


def _check_places(args: argparse.Namespace, inputs: Sequence[str | Path | None]) -> None:
    """Checks before any work that no output replaces an input or a file of another program."""
    from videotag.inference.outputs import FileOutput, check_files
    from videotag.reports.eval_report import CSV_HEAD
    from videotag.reports.tags_report import PAGE_HEAD

    save_dir = Path(args.save_dir)
    outputs = [
        FileOutput(save_dir / METRICS_FILE, "--save_dir", _METRICS_HEAD),
        FileOutput(save_dir / PER_CLASS_FILE, "--save_dir", CSV_HEAD),
    ]
    if args.report:
        outputs.append(FileOutput(Path(args.report), "--report", PAGE_HEAD))
    videos = [output.path for output in outputs if _is_video_below(output.path, args.video_root)]
    check_files(outputs, inputs=[*inputs, *videos], overwrite=args.overwrite)


def _is_video_below(path: Path, video_root: str | None) -> bool:
    """Whether the report might use a file as a video for thumbnails, which it finds by name and suffix."""
    from videotag.media.suffixes import VIDEO_SUFFIXES

    is_below = video_root is not None and path.resolve().is_relative_to(Path(video_root).resolve())
    return is_below and path.suffix.lower() in VIDEO_SUFFIXES


def _dataset(config: Config, entries: list[ListEntry]) -> Dataset:
    """The dataset of the test samples, with its labels checked."""
    from videotag.datasets.batches import check_single_labels
    from videotag.formats.record_files import is_record_file
    from videotag.inference.data import open_dataset

    dataset = open_dataset(config, entries, config.test)
    if not any(entry.label_ids or is_record_file(entry.path) for entry in entries):
        raise FileListError(f"{config.test.filelist}: {_NO_LABELS}; append class ids to the paths")
    if config.task == "single_label":
        check_single_labels(entries, config.test.filelist)
    return dataset


def _check_report_flags(args: argparse.Namespace) -> None:
    """Checks flags that need --report, and warns before any work if figures cannot be drawn."""
    from videotag.reports.figures import MISSING, can_draw

    if args.report:
        if args.video_root and not Path(args.video_root).is_dir():
            raise ConfigError(f"{args.video_root}: no such folder; give --video_root=FOLDER of the videos")
        if not can_draw():
            logger.warning("%s: %s", args.report, MISSING)
        return
    for flag, value in (("--mistakes", args.mistakes), ("--video_root", args.video_root)):
        if value is not None:
            raise ConfigError(f"{flag}: has no effect without --report; give --report=eval.html too")


def _class_names(args: argparse.Namespace, model: TrainedModel) -> list[str] | None:
    """The class names; None, with a warning, if no label file is given and no suitable one is found."""
    try:
        return model.labels(arguments.label_file(args), default=arguments.DEFAULT_LABEL_FILE)
    except LabelFileError as error:
        if arguments.label_file(args):
            raise
        logger.warning("no class names: %s", error)
        return None


def _observed(args: argparse.Namespace, task: Task) -> Observed:
    """New, empty observers of the evaluation."""
    from videotag.metrics import Confusion, MissedTags, Mistakes, PerClass, ScoreHistograms
    from videotag.reports.eval_report import Observed

    one_label = task == "single_label"  # the best class is predicted, without a threshold
    if one_label and args.threshold is not None:
        raise ConfigError("--threshold: this model has a single label, the best class; leave it out")
    threshold = DEFAULT_THRESHOLD if args.threshold is None else args.threshold
    return Observed(
        per_class=PerClass(threshold=None if one_label else threshold),
        curves=ScoreHistograms(),
        confusion=Confusion() if one_label else MissedTags(threshold=threshold),
        mistakes=Mistakes(limit=DEFAULT_MISTAKES if args.mistakes is None else args.mistakes),
    )


def _logged(batches: Iterable[Item], total: int, interval: int) -> Iterator[Item]:
    for index, batch in enumerate(batches, start=1):
        yield batch
        if index % interval == 0 or index == total:
            logger.info("batch %d of %d", index, total)
