"""Selects a candidate of `videotag fit` by its held-out scores.

The score is mAP. A candidate replaces a simpler one only if its gain exceeds one standard error of the
gain, by a bootstrap over groups (see bootstrap.py); so a tie is decided in favor of the simpler. On simulated
scores of two equally good candidates, 16 to 18 % of the gains exceed it, which is 16 % for normal errors, and
21 to 22 % where half of the classes have one to three positives (tools/benchmark/bootstrap_coverage.py).
Shapes: N training videos, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from videotag.fit.bootstrap import Score, bootstrap_rows, mean_ap_of, resampled_mean_ap, score_with_interval
from videotag.fit.labeled_set import LabeledSet

_NUM_AVERAGED = (2, 3)  # best candidates
RULE = (
    "highest mAP on held-out folds; a more complex candidate must gain more than one standard error "
    "(bootstrap over groups) on a simpler one"
)


@dataclass(frozen=True)
class CandidateResult(Score):
    """The held-out score of a candidate, or of the mean of several, whose name joins theirs by " + ".

    Attributes:
        members: Names of the candidates whose probabilities are averaged.
        note: Why it was or was not chosen.
    """

    members: tuple[str, ...]
    note: str = ""


def select_candidate(
    held_out: Mapping[str, np.ndarray], train_set: LabeledSet, *, seed: int = 0
) -> tuple[list[CandidateResult], CandidateResult]:
    """Scores every candidate and the averages of the best ones, and selects one.

    Args:
        held_out: Name -> held-out probabilities (N, C), from the simplest candidate to the most complex; at
            least one candidate.
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
        score = score_with_interval(" + ".join(names), x, y, resampled)
        one = CandidateResult(**vars(score), members=names)
        if chosen is not None:
            gain, error = one.mean_ap - chosen.mean_ap, float(np.std(resampled - chosen_samples))
            one = replace(one, note=f"{gain:+.3f} against {chosen.name}, standard error {error:.3f}")
        judged.append(one)
        if chosen is None or gain > error:
            chosen, chosen_samples = one, resampled
    assert chosen is not None, "held_out is not empty"
    return judged, chosen
