"""Selects a candidate of `videotag fit` by its held-out scores.

The score is mAP. A candidate replaces a simpler one only if its gain exceeds one standard error of the
gain, by a bootstrap over groups; so a tie is decided in favor of the simpler.
Shapes: N training videos, C classes, B bootstrap samples, G groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from videotag.fit.labeled_set import LabeledSet
from videotag.metrics import hit_at_one, mean_ap

_NUM_AVERAGED = (2, 3)  # best candidates
INTERVAL = (5.0, 95.0)  # percentiles
_MAX_SAMPLES, _MIN_SAMPLES = 400, 50
_MAX_VALUES = 40_000_000  # scores that are ranked per candidate, about four seconds
RULE = (
    "highest mAP on held-out folds; a more complex candidate must gain more than one standard error "
    "(bootstrap over groups) on a simpler one"
)


@dataclass(frozen=True)
class CandidateResult:
    """A candidate, or the mean of several, with its held-out results.

    Attributes:
        name: Name of the candidate; joined by " + " for a mean of probabilities.
        members: Names of the candidates whose probabilities are averaged.
        score: Held-out mAP.
        low, high: 5th and 95th percentile of the mAP over bootstrap samples of the groups.
        hit_at_one: Share of the labeled videos whose highest score is one of their labels.
        note: Why it was or was not chosen.
    """

    name: str
    members: tuple[str, ...]
    score: float
    low: float
    high: float
    hit_at_one: float
    note: str = ""


def select_candidate(
    held_out: Mapping[str, np.ndarray], train_set: LabeledSet, *, seed: int = 0
) -> tuple[list[CandidateResult], CandidateResult]:
    """Scores every candidate and the averages of the best ones, and selects one.

    Args:
        held_out: Name -> held-out probabilities (N, C), from the simplest candidate to the most complex.
        train_set: Training set of the N videos.
        seed: Seed of the bootstrap.

    Returns:
        All candidates and averages, in order of complexity; and the selected one.
    """
    y = train_set.one_hot
    ranked = sorted(held_out, key=lambda name: mean_ap_of(held_out[name], y), reverse=True)
    order = list(held_out)
    members: list[tuple[str, ...]] = [(name,) for name in held_out]
    members += [tuple(sorted(ranked[:n], key=order.index)) for n in _NUM_AVERAGED if n <= len(ranked)]
    samples = bootstrap_rows(train_set.groups, y.size, seed=seed)
    judged: list[CandidateResult] = []
    chosen, chosen_samples = None, np.zeros(0)
    for names in members:
        x = np.mean([held_out[name] for name in names], axis=0)
        resampled = np.array([mean_ap_of(x[rows], y[rows]) for rows in samples])
        low, high = np.percentile(resampled, INTERVAL)
        one = CandidateResult(
            " + ".join(names), names, mean_ap_of(x, y), float(low), float(high), hit_at_one(x, y)
        )
        if chosen is not None:
            gain, error = one.score - chosen.score, float(np.std(resampled - chosen_samples))
            one = replace(one, note=f"{gain:+.3f} against {chosen.name}, standard error {error:.3f}")
        judged.append(one)
        if chosen is None or gain > error:
            chosen, chosen_samples = one, resampled
    assert chosen is not None, "held_out is not empty"
    return judged, chosen


def mean_ap_of(scores: np.ndarray, labels: np.ndarray) -> float:
    """mAP in [0, 1] over all classes of every video, for scores and labels (N, C)."""
    return mean_ap(scores, labels, top_k=scores.shape[1])


def bootstrap_rows(groups: Sequence[str], num_values: int, *, seed: int) -> list[np.ndarray]:
    """Indices of the videos of B bootstrap samples, each of G groups drawn with replacement.

    Args:
        groups: Group of each of N videos.
        num_values: Number of scores N * C, which bounds B.
        seed: Seed of the draws.
    """
    _, member_of = np.unique(np.asarray(groups), return_inverse=True)
    order = np.argsort(member_of, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(member_of))[:-1])
    count = int(np.clip(_MAX_VALUES // max(1, num_values), _MIN_SAMPLES, _MAX_SAMPLES))
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(members), size=(count, len(members)))
    return [np.concatenate([members[group] for group in row]) for row in drawn]
