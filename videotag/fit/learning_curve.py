"""Held-out mAP by number of training videos, and what more videos are expected to give.

Shapes: N training videos, C classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from videotag.config import Config
from videotag.fit.bootstrap import mean_ap_of
from videotag.fit.candidates import Candidate
from videotag.fit.cross_validation import HeldOutScores, score, train_linear, train_network
from videotag.fit.labeled_set import TrainingSet
from videotag.system.progress import track

SHARES = (0.25, 0.5)  # of the training videos of a fold
_NUM_FOLDS = 2  # folds of a network, whose training takes long
MIN_VIDEOS = 32  # of a training set with a learning curve


@dataclass(frozen=True)
class CurvePoint:
    """A point of a learning curve.

    Attributes:
        num_videos: Number of training videos, a mean over folds.
        score: mAP over the held-out videos of all folds.
        error: Standard error over folds; 0.0 for a single fold.
    """

    num_videos: int
    score: float
    error: float


def learning_curve(
    candidate: Candidate,
    config: Config,
    held_out: HeldOutScores,
    train_set: TrainingSet,
    *,
    seconds_left: Callable[[], float],
    seed: int = 0,
) -> list[CurvePoint]:
    """Held-out mAP of a candidate with a quarter, half and all of the training videos of a fold.

    Args:
        candidate: Candidate.
        config: Config of the candidate.
        held_out: Result of its cross-validation.
        train_set: Training set of N videos; its groups are left out as a whole.
        seconds_left: Function that returns the time in seconds that is left for this.
        seed: Seed of the groups that are left out.

    Returns:
        Points with non-decreasing num_videos; only the last one if time runs out or the set is too small.
    """
    y, folds, num_videos = train_set.one_hot, train_set.folds, len(train_set)
    positive = [fold for fold in folds if y[fold].any()]  # mAP is undefined in the others
    used = positive if candidate.is_linear else positive[:_NUM_FOLDS]
    needed = held_out.seconds * len(SHARES) * len(used) / len(folds)
    points = []
    if num_videos >= MIN_VIDEOS and needed < seconds_left():
        for share in track(SHARES, "learning curve", len(SHARES)):
            results, sizes = [], []
            for number, fold in enumerate(used):
                others = np.setdiff1d(np.arange(num_videos), fold)
                rows = _share_of(others, train_set.groups, share, seed=seed + number)
                data = train_set.dataset.subset(rows)
                if held_out.weight_decay is not None:
                    # The loss is a mean, so an equal prior weighs less the more videos there are.
                    scaled = held_out.weight_decay * len(others) / len(rows)
                    model = train_linear(config, data, scaled)
                else:
                    model = train_network(config, data)
                results.append(score(model, train_set.dataset.subset(fold), config))
                sizes.append(len(rows))
            points.append(_point(sizes, results, [y[fold] for fold in used]))
    rest = [num_videos - len(fold) for fold in used]
    points.append(_point(rest, [held_out.scores[fold] for fold in used], [y[fold] for fold in used]))
    return points


def forecast(curve: Sequence[CurvePoint], num_videos: int) -> tuple[float, float, float] | None:
    """The expected mAP with a number of videos, and its interval: the error falls as a power of the number.

    Args:
        curve: Learning curve.
        num_videos: Number of training videos.

    Returns:
        mAP, and the ends of its interval of about 90 %, in [0, 1]; None with fewer than three points or a
        curve that does not rise.
    """
    if len(curve) < 3 or curve[-1].score <= curve[0].score or curve[-1].score >= 1:
        return None
    x = np.log([point.num_videos for point in curve])
    y = np.log([max(1 - point.score, 1e-4) for point in curve])
    slope, offset = np.polyfit(x, y, 1)
    if slope >= 0:
        return None
    expected = 1 - float(np.exp(offset + slope * np.log(num_videos)))
    expected = max(expected, curve[-1].score)
    spread = 1.64 * float(np.hypot(curve[-1].error, np.std(y - offset - slope * x) * (1 - expected)))
    return expected, max(0.0, expected - spread), min(1.0, expected + spread)


def _point(sizes: Sequence[int], scores: Sequence[np.ndarray], labels: Sequence[np.ndarray]) -> CurvePoint:
    """The point of the scores (n, C) and labels (n, C) of each fold, pooled as in the table of candidates."""
    per_fold = [mean_ap_of(x, y) for x, y in zip(scores, labels, strict=True)]
    error = float(np.std(per_fold) / (len(per_fold) - 1) ** 0.5) if len(per_fold) > 1 else 0.0
    pooled = mean_ap_of(np.concatenate(scores), np.concatenate(labels))
    return CurvePoint(round(float(np.mean(sizes))), pooled, error)


def _share_of(rows: np.ndarray, groups: Sequence[str], share: float, *, seed: int) -> np.ndarray:
    """Rows of random groups that hold about a share of all rows, in order."""
    sizes = Counter(groups[row] for row in rows)
    names = sorted(sizes)
    kept: set[str] = set()
    count = 0
    for index in np.random.default_rng(seed).permutation(len(names)):
        if count >= share * len(rows):
            break
        kept.add(names[index])
        count += sizes[names[index]]
    return np.array([row for row in rows if groups[row] in kept])
