"""Tags of feature files, and how scores become tags."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from videotag.datasets.batches import Batch
from videotag.inference.trained_model import TrainedModel
from videotag.registry import LOGITS
from videotag.runtime.agreement import scores_of


@dataclass(frozen=True)
class Tag:
    """One tag of a video.

    Attributes:
        class_id: index of the logit, line of the label file.
        class_name: of the label file.
        probability: in [0, 1].
    """

    class_id: int
    class_name: str
    probability: float

    def to_dict(self) -> dict[str, Any]:
        """The tag as it stands in JSON files."""
        return {
            "class_id": self.class_id,
            "class_name": self.class_name,
            "probability": round(self.probability, 6),
        }


@dataclass(frozen=True)
class Prediction:
    """The tags of one video, the likeliest first; video_id as the list wrote it."""

    video_id: str
    tags: list[Tag]

    def to_dict(self) -> dict[str, Any]:
        """The prediction as it stands in JSON files."""
        return {"video_id": self.video_id, "tags": [tag.to_dict() for tag in self.tags]}


def top_tags(
    probabilities: np.ndarray, labels: Sequence[str], *, top_k: int, threshold: float = 0.0
) -> list[Tag]:
    """The top_k likeliest classes that reach the threshold, the first index first on ties.

    Args:
        probabilities: (C,) in [0, 1].
        labels: C names.
        top_k: at most so many tags.
        threshold: least probability of a tag.
    """
    order = np.argsort(-probabilities, kind="stable")[:top_k]
    return [Tag(int(i), labels[i], float(probabilities[i])) for i in order if probabilities[i] >= threshold]


def predict(
    model: TrainedModel,
    batches: Iterable[Batch],
    labels: Sequence[str],
    *,
    top_k: int,
    threshold: float = 0.0,
) -> Iterator[Prediction]:
    """The predictions of a model, in the order of the batches.

    Args:
        model: Trained model.
        batches: in the order of the predictions.
        labels: C names.
        top_k: tags kept per video.
        threshold: least probability of a tag.
    """
    for batch in batches:
        scores = scores_of(model.task, model.run(batch.inputs)[LOGITS])
        for video_id, row in zip(batch.ids, scores, strict=True):
            yield Prediction(video_id, top_tags(row, labels, top_k=top_k, threshold=threshold))
