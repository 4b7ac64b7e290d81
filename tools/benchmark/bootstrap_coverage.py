"""Measures the bootstrap of `videotag fit` on simulated scores: intervals and standard errors of the mAP.

    python tools/benchmark/bootstrap_coverage.py

A simulated set has 8 classes, in each of which a quarter of the videos is positive, or one to three videos
are. A candidate's scores are normal, with a higher mean where the label is positive. Prints a row per kind of
set, in less than two minutes:
  coverage  share of the sets whose 90 % interval holds the expected mAP, the mean over many such sets
  bias      mean of the interval's center, minus the expected mAP
  gains     share of the sets in which a second, equally good candidate gains more than one standard error on
            the first; half of the variance of their noise is shared
Shapes: N videos, C classes.
"""

from __future__ import annotations

from videotag.system.signals import exit_with

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from run_tool import run_tool

from videotag.cli import values
from videotag.errors import EXIT_OK
from videotag.fit.bootstrap import bootstrap_rows, mean_ap_of, resampled_mean_ap, score_with_interval

NUM_CLASSES = 8
SETS = tuple((num_videos, num_rare) for num_videos in (60, 100) for num_rare in (0, 4, 8))
MOST_POSITIVES = 3  # of a rare class
COMMON_SHARE = 0.25  # of the videos that are positive in the other classes
SIGNAL = 1.5  # mean score of a positive video, in standard deviations
SHARED_VARIANCE = 0.5  # of the noise of two candidates
NUM_EXPECTED = 2000  # sets whose mean mAP is the expected one
NUM_SAMPLES = 150  # bootstrap samples of a set, fewer than those of `fit`


@dataclass(frozen=True)
class Coverage:
    """What one kind of simulated set shows.

    Attributes:
        coverage: Share of the sets whose interval holds the expected mAP.
        bias: Mean of the interval's center, minus the expected mAP.
        gains: Share of the sets in which an equally good candidate gains more than one standard error.
    """

    coverage: float
    bias: float
    gains: float


def main(argv: list[str] | None = None) -> int:
    """Prints the table; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="bootstrap_coverage",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--sets", type=values.natural, default=200, help="of a kind (default: %(default)s)")
    return run_tool(parser, _work, argv)


def _work(args: argparse.Namespace) -> int:
    print(f"| videos | classes of 1 to {MOST_POSITIVES} positives | coverage | bias | gains |")
    print("|---|---|---|---|---|")
    for num_videos, num_rare in SETS:
        found = measure(num_videos, num_rare, num_sets=args.sets)
        covered, gains = (f"{100 * share:.0f} %" for share in (found.coverage, found.gains))
        cells = [str(num_videos), f"{num_rare} of {NUM_CLASSES}", covered, f"{found.bias:+.3f}", gains]
        print(f"| {' | '.join(cells)} |", flush=True)
    return EXIT_OK


def measure(num_videos: int, num_rare: int, *, num_sets: int, seed: int = 0) -> Coverage:
    """Coverage and bias of the interval, and share of large gains, for one kind of set.

    Args:
        num_videos: Number of videos N, each a group of its own.
        num_rare: Number of classes with one to three positives.
        num_sets: Number of simulated sets.
        seed: Seed of labels, scores and bootstrap samples.
    """
    rng = np.random.default_rng(seed)
    expected = float(
        np.mean([mean_ap_of(*simulate(num_videos, num_rare, rng)[1:]) for _ in range(NUM_EXPECTED)])
    )
    is_covered, centers, is_gain = [], [], []
    groups = [str(index) for index in range(num_videos)]
    for number in range(num_sets):
        first, second, y = simulate(num_videos, num_rare, rng)
        samples = bootstrap_rows(groups, y.size, seed=seed + number)[:NUM_SAMPLES]
        resampled, other = (resampled_mean_ap(x, y, samples) for x in (first, second))
        score = score_with_interval("first", first, y, resampled)
        is_covered.append(score.low <= expected <= score.high)
        centers.append((score.low + score.high) / 2)
        # As select_candidate decides.
        is_gain.append(mean_ap_of(second, y) - score.mean_ap > np.std(other - resampled))
    return Coverage(float(np.mean(is_covered)), float(np.mean(centers)) - expected, float(np.mean(is_gain)))


def simulate(
    num_videos: int, num_rare: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores (N, C) of two equally good candidates, and labels (N, C) in {0, 1}.

    Args:
        num_videos: Number of videos N.
        num_rare: Number of classes with one to three positives.
        rng: Source of randomness.
    """
    y = np.zeros((num_videos, NUM_CLASSES), np.int64)
    for class_id in range(NUM_CLASSES):
        is_rare = class_id < num_rare
        count = rng.integers(1, MOST_POSITIVES, endpoint=True) if is_rare else COMMON_SHARE * num_videos
        y[rng.choice(num_videos, int(count), replace=False), class_id] = 1
    shared, *own = rng.normal(size=(3, num_videos, NUM_CLASSES))
    first, second = (
        SIGNAL * y + SHARED_VARIANCE**0.5 * shared + (1 - SHARED_VARIANCE) ** 0.5 * noise for noise in own
    )
    return first, second, y


if __name__ == "__main__":
    exit_with(main())
