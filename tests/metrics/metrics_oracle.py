"""The metrics again, in plain Python loops written from their definitions; slow and obvious."""

from __future__ import annotations

from collections.abc import Sequence

Rows = Sequence[Sequence[float]]


def ranked_classes(scores: Sequence[float]) -> list[int]:
    """Class ids, best first; of equal scores the lower id first."""
    return sorted(range(len(scores)), key=lambda class_id: (-scores[class_id], class_id))


def hit_at_one(scores: Rows, labels: Rows, empty: str) -> float:
    values = [float(labels[i][ranked_classes(row)[0]]) for i, row in enumerate(scores)]
    return mean_over_videos(values, labels, empty)


def perr(scores: Rows, labels: Rows, empty: str) -> float:
    values = []
    for row, label_row in zip(scores, labels, strict=True):
        k = int(sum(label_row))
        values.append(sum(label_row[c] for c in ranked_classes(row)[:k]) / k if k else 0.0)
    return mean_over_videos(values, labels, empty)


def mean_over_videos(values: list[float], labels: Rows, empty: str) -> float:
    counted = [v for v, row in zip(values, labels, strict=True) if any(row) or empty == "zero"]
    return sum(counted) / len(counted) if counted else 0.0


def top_entries(scores: Rows, labels: Rows, top_k: int) -> list[tuple[int, float, bool]]:
    """(class id, score, hit) of the top_k classes of every video."""
    return [
        (c, row[c], bool(labels[i][c])) for i, row in enumerate(scores) for c in ranked_classes(row)[:top_k]
    ]


def average_precision(entries: list[tuple[int, float, bool]], num_positives: int) -> float:
    """Precision at every hit, summed and divided by num_positives; misses before hits of equal score."""
    num_hits, total = 0, 0.0
    for rank, (_, _, hit) in enumerate(sorted(entries, key=lambda e: (-e[1], e[2])), start=1):
        if hit:
            num_hits += 1
            total += num_hits / rank
    return total / num_positives if num_positives else 0.0


def gap(scores: Rows, labels: Rows, top_k: int) -> float:
    return average_precision(top_entries(scores, labels, top_k), int(sum(map(sum, labels))))


def mean_ap(scores: Rows, labels: Rows, top_k: int) -> float:
    entries = top_entries(scores, labels, top_k)
    aps = []
    for class_id in range(len(scores[0]) if len(scores) else 0):
        num_positives = int(sum(row[class_id] for row in labels))
        if num_positives:
            aps.append(average_precision([e for e in entries if e[0] == class_id], num_positives))
    return sum(aps) / len(aps) if aps else 0.0


def topk_accuracy(scores: Rows, label_ids: Sequence[int], k: int) -> float:
    hits = [label in ranked_classes(row)[:k] for row, label in zip(scores, label_ids, strict=True)]
    return sum(hits) / len(hits) if hits else 0.0
