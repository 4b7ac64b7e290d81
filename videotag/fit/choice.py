"""Selects a candidate of `videotag fit` by its held-out scores.

The score is mAP. A candidate replaces a simpler one only if its gain exceeds one standard error of the
gain, by a bootstrap over groups (see bootstrap.py); so a tie is decided in favor of the simpler. On made
scores of two equally good candidates, about 16 % of the gains exceed it, as they should, and 22 % where half
of the classes have about two positives.
Shapes: N training videos, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from videotag.fit.bootstrap import INTERVAL, bootstrap_rows, mean_ap_of, resampled_mean_ap
from videotag.fit.labeled_set import LabeledSet
from videotag.metrics import hit_at_one

_NUM_AVERAGED = (2, 3)  # best candidates
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
        low, high: 5th and 95th percentile of the mAP over bootstrap samples, see resampled_mean_ap.
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
        resampled = resampled_mean_ap(x, y, samples)
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
