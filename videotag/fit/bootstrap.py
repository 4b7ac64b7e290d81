"""Bootstrap of the mAP over groups: how much it would change with other videos.

Shapes: N videos, C classes, B bootstrap samples, G groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from videotag.metrics.mean_ap import MeanAp, ap_per_class

INTERVAL = (5.0, 95.0)  # percentiles
_MAX_SAMPLES, _MIN_SAMPLES = 400, 50
_MAX_VALUES = 40_000_000  # scores that are ranked per candidate, about four seconds


def mean_ap_of(scores: np.ndarray, labels: np.ndarray) -> float:
    """mAP over all classes of every video.

    Args:
        scores: (N, C) float, higher is more likely.
        labels: (N, C) in {0, 1}.

    Returns:
        Value in [0, 1], the mean over classes with a positive; 0.0 if there is no positive label.
    """
    return _mean(_average_precisions(scores, labels))


def resampled_mean_ap(scores: np.ndarray, labels: np.ndarray, samples: Iterable[np.ndarray]) -> np.ndarray:
    """mAP of every bootstrap sample, always over the classes that have a positive in the full set.

    Samples often lack the positives of a rare class. Its average precision (AP) is mostly low, so a mean over
    the other classes would be too high: the mean of the samples, and the upper end of the interval, would
    depend on which classes were drawn. Here a class that a sample lacks keeps the AP that it has in the full
    set, plus the mean change of the classes that the sample has. Without that change the class would count as
    certain, and the interval would be narrower.

    Measured on 150 made sets each of 60 or 100 videos, in which some or all classes have one to three
    positives; the interval is that of 90 %, and "holds" counts the expected mAP of such sets:

        mean of the samples over                     exceeds the mAP by   holds       too low    too high
        classes drawn, the others kept as they are   0.01 to 0.03         62 to 78 %  7 to 17 %  11 to 21 %
        classes drawn, the others changed as these   0.01 to 0.03         67 to 81 %  5 to 14 %  11 to 20 %
        classes drawn alone                          0.03 to 0.04         79 to 89 %  1 to 11 %  5 to 18 %

    So the interval is still too narrow where classes have so few positives: no resampling of one positive
    shows how uncertain it is. That of the classes drawn alone is wider only because the mean over other
    classes is another quantity, and its upper end is too high.

    Args:
        scores: (N, C) float, higher is more likely.
        labels: (N, C) in {0, 1}.
        samples: Indices of the videos of each of B bootstrap samples, see bootstrap_rows.

    Returns:
        (B,) in [0, 1].
    """
    full = _average_precisions(scores, labels)  # (C,), NaN for classes without positives
    values = []
    for rows in samples:
        aps = _average_precisions(scores[rows], labels[rows])
        drawn = ~np.isnan(aps)
        # The difference is exactly 0 if all classes were drawn.
        values.append(_mean(aps) + (_mean(full) - _mean(full[drawn])))
    return np.clip(values, 0.0, 1.0)


def bootstrap_rows(groups: Sequence[str], num_values: int, *, seed: int) -> list[np.ndarray]:
    """Indices of the videos of B bootstrap samples, each of G groups drawn with replacement.

    Args:
        groups: Group of each of N videos.
        num_values: Number of scores N * C, which bounds B.
        seed: Seed of the draws.

    Returns:
        B arrays (n,); n differs between samples if groups differ in size.
    """
    _, member_of = np.unique(np.asarray(groups), return_inverse=True)
    order = np.argsort(member_of, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(member_of))[:-1])
    count = int(np.clip(_MAX_VALUES // max(1, num_values), _MIN_SAMPLES, _MAX_SAMPLES))
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(members), size=(count, len(members)))
    return [np.concatenate([members[group] for group in row]) for row in drawn]


def _average_precisions(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(C,) average precision of each class; NaN for classes without positives."""
    metric = MeanAp(top_k=scores.shape[1])
    metric.update(scores, labels)
    return np.where(metric.positives_per_class > 0, ap_per_class(metric), np.nan)


def _mean(aps: np.ndarray) -> float:
    """Mean over the classes that have a value; 0.0 without any."""
    known = aps[~np.isnan(aps)]
    return float(np.mean(known)) if len(known) else 0.0
