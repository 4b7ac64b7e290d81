"""Turns scores into tags, and the batches of a list into predictions.

Shapes: C classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from videotag.datasets.batches import Batch, OnError
from videotag.errors import ShapeError
from videotag.inference.trained_model import TrainedModel
from videotag.registry import LOGITS
from videotag.runtime.agreement import scores_of


@dataclass(frozen=True)
class Tag:
    """One tag of a video.

    Attributes:
        class_id: Index of the logit and line of the label file, from 0.
        class_name: Name in the label file.
        probability: Probability in [0, 1].
    """

    class_id: int
    class_name: str
    probability: float

    def to_dict(self) -> dict[str, Any]:
        """The tag as written to JSON files; the probability is rounded to 6 digits."""
        return {
            "class_id": self.class_id,
            "class_name": self.class_name,
            "probability": round(self.probability, 6),
        }


@dataclass(frozen=True)
class Prediction:
    """The tags of one video.

    Attributes:
        video_id: Id or path of the video as written in the list.
        tags: Tags by decreasing probability.
    """

    video_id: str
    tags: list[Tag]

    def to_dict(self) -> dict[str, Any]:
        """The prediction as it stands in JSON files."""
        return {"video_id": self.video_id, "tags": [tag.to_dict() for tag in self.tags]}


def top_tags(
    probabilities: np.ndarray, labels: Sequence[str], *, top_k: int, threshold: float = 0.0
) -> list[Tag]:
    """The top_k most probable classes that reach the threshold; ties go to the lower class id.

    Args:
        probabilities: Probabilities (C,) float in [0, 1].
        labels: C class names.
        top_k: Maximum number of tags.
        threshold: Minimum probability of a tag.

    Returns:
        Tags by decreasing probability; empty if none reaches the threshold.
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
    on_error: OnError,
) -> Iterator[Prediction]:
    """Yields the predictions of a model, in the order of the batches.

    Args:
        model: Trained model.
        batches: Batches to predict.
        labels: C class names.
        top_k: Maximum number of tags per video.
        threshold: Minimum probability of a tag.
        on_error: Called for each sample with a probability that is NaN or infinite; it gets no prediction.

    Raises:
        WeightsError, ConfigError, DeviceError: The network cannot be loaded; see TrainedModel.load_network.
    """
    for batch in batches:
        scores = scores_of(model.task, model.run(batch.inputs)[LOGITS])
        for video_id, row in zip(batch.ids, scores, strict=True):
            if not np.isfinite(row).all():
                found = row[~np.isfinite(row)][0]
                text = (
                    f"{video_id}: a probability is {found}; check the sample for NaN, and the training loss"
                )
                on_error(video_id, ShapeError(text))
                continue
            yield Prediction(video_id, top_tags(row, labels, top_k=top_k, threshold=threshold))
