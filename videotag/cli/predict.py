"""Predicts tags of feature files with a tagger, or of videos with a TSN.

    python predict.py --weights=data/checkpoints/AttentionLSTM_epoch9 --filelist=my.list --label_file=my.txt

Prints a table to stdout, and writes SAVE_DIR/predictions.json (or .jsonl, .csv, or predictions_kaggle.csv in
the format of the YouTube-8M challenge). --weights=A,B,C averages the probabilities of several taggers. To run
both stages on videos, use `videotag tag`.
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videotag.cli import arguments, values
from videotag.cli.tables import tags_table
from videotag.errors import EXIT_FAILURES, EXIT_OK, ConfigError, LabelFileError, VideotagError
from videotag.formats.filelist import ListEntry
from videotag.system.progress import track

if TYPE_CHECKING:
    from videotag.config import Config
    from videotag.inference.trained_model import TrainedModel

SUMMARY = "predict tags of feature files"
PUBLISHED_WEIGHTS = "videotag_attention_lstm"
logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `videotag predict`."""
    arguments.add_model_arguments(parser)
    parser.add_argument(
        "--weights",
        help=f"default: {arguments.DEFAULT_WEIGHTS}, else {PUBLISHED_WEIGHTS}, which is downloaded; "
        "may be an export; A,B,C: the mean of several taggers' probabilities",
    )
    parser.add_argument("--filelist", help="a list, instead of INFER.filelist")
    parser.add_argument(
        "--video_path", help="a file or a folder of files: .npy for a tagger, videos for a TSN"
    )
    parser.add_argument(
        "--label_file",
        help="class names, one per line, or YouTube-8M's vocabulary.csv (default: those beside the weights, "
        f"else {arguments.DEFAULT_LABEL_FILE})",
    )
    parser.add_argument(
        "--infer_topk", type=values.natural, help="maximum number of tags per video (default: MODEL.topk)"
    )
    parser.add_argument(
        "--threshold", type=values.fraction, default=0.0, help="minimum probability of a tag (default: 0)"
    )
    parser.add_argument("--batch_size", type=values.natural)
    arguments.add_runtime_arguments(parser)
    parser.add_argument("--save_dir", help="default: ./data/predict_results/<model>")
    arguments.add_overwrite(parser)
    parser.add_argument(
        "--log_interval",
        type=values.natural,
        default=1,
        help="print the tags of every Nth video (default: 1)",
    )
    parser.add_argument(
        "--format",
        choices=("json", "jsonl", "csv", "kaggle"),
        default="json",
        help="format of SAVE_DIR/predictions.<format>; kaggle: SAVE_DIR/predictions_kaggle.csv as in "
        "the YouTube-8M challenge, `VideoId,LabelConfidencePairs`, best class first (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of a table")


def run(args: argparse.Namespace) -> int:
    """Writes the predictions to SAVE_DIR and prints the tags; returns 1 if some files failed."""
    from videotag.formats.predictions import HEADS, prediction_writer, predictions_file
    from videotag.inference.outputs import FileOutput, check_files

    if args.video_path and args.filelist:
        raise ConfigError("--video_path and --filelist: give one of them")
    found = arguments.find_checkpoints(args.weights, published=PUBLISHED_WEIGHTS)
    flags = {
        "INFER.batch_size": args.batch_size,
        "INFER.filelist": args.filelist,
        "MODEL.topk": args.infer_topk,
        **arguments.runtime_flags(args),
    }
    model = arguments.read_model(args, flags, found)
    config = model.config
    entries, left_out = _entries(args.video_path, config)
    failed: list[str] = []
    predictions = _predict(args, model, entries, failed)
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", config.entry.name)  # AttentionLSTM: attention_lstm
    save_dir = Path(args.save_dir or f"./data/predict_results/{'_'.join(words).lower()}")
    path = save_dir / predictions_file(args.format)
    named = [config.infer.filelist, *arguments.model_files(args, model)]
    check_files(
        [FileOutput(path, "--save_dir", HEADS[args.format])],
        inputs=[*named, *(entry.path for entry in entries)],
        overwrite=args.overwrite,
    )
    count, is_shown = 0, args.format != "kaggle"  # the challenge has 700,000 videos
    with prediction_writer(path, args.format) as write:
        for index, prediction in enumerate(predictions):
            write(prediction)
            count += 1
            if is_shown and index % args.log_interval == 0:
                text = arguments.json_text(prediction) if args.json else tags_table(prediction)
                arguments.show(text)
    logger.info("written: %s", path)
    if left_out:
        logger.info("%s", left_out)
    if failed:
        logger.warning("failed: %d of %d", len(failed), len(failed) + count)
        for text in failed:
            logger.warning("%s", text)
        return EXIT_FAILURES
    return EXIT_OK


def _entries(video_path: str | None, config: Config) -> tuple[list[ListEntry], str | None]:
    """The samples to predict, and a message about skipped files of a folder, None if there are none."""
    from videotag.inference.data import read_section_list

    if video_path is None:
        # Labels in the list may belong to another label file: predicting ignores them.
        listed = read_section_list(config, "INFER", labels="optional")
        return [replace(entry, label_ids=()) for entry in listed], None
    (_, reader), *others = config.readers(config.infer)
    if others:
        raise ConfigError(f"--video_path={video_path}: the model has several inputs; give --filelist")
    if reader.count_names:
        raise ConfigError(f"--video_path={video_path}: the model reads folders of frames; give --filelist")
    found = reader.find(arguments.check_readable(video_path))
    config.infer.filelist = None  # not used, and no index must be cached beside it
    return [ListEntry(path) for path in found.paths], found.left_out


def _class_names(args: argparse.Namespace, model: TrainedModel) -> list[str]:
    """The class names; class ids, with a warning, if no label file is given or found."""
    named = arguments.label_file(args)
    try:
        return model.labels(named, default=arguments.DEFAULT_LABEL_FILE)
    except LabelFileError as error:
        if named or model.config.model.label_file:
            raise
        if args.format != "kaggle":  # this format has no names
            logger.warning("class ids instead of names: %s", error)
        model.load_network()  # first, to reject weights with another number of classes
        return [str(class_id) for class_id in range(model.config.model.num_classes)]


def _predict(
    args: argparse.Namespace, model: TrainedModel, entries: list[ListEntry], failed: list[str]
) -> Iterator[dict[str, Any]]:
    from videotag.inference.data import check_inputs, evaluation_batches, open_dataset
    from videotag.inference.list_sample import select_runtime_on_list
    from videotag.inference.predict import predict

    config = model.config
    dataset = open_dataset(config, entries, config.infer)
    labels = _class_names(args, model)
    model.load_network()
    check_inputs(config, config.infer, model.inputs)
    select_runtime_on_list(model, entries, dataset)

    def on_error(_: str, error: VideotagError) -> None:
        failed.append(str(error))

    batches = evaluation_batches(dataset, config.infer, on_error=on_error)
    if args.format == "kaggle" or not sys.stdout.isatty():  # tags on a terminal are progress enough
        batches = track(batches, "predict", -(-len(dataset) // config.infer.batch_size))
    options = {"top_k": config.model.topk, "threshold": args.threshold}
    for prediction in predict(model, batches, labels, **options, on_error=on_error):
        yield prediction.to_dict()
