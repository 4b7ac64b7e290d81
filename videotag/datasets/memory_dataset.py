"""A dataset whose samples are kept in memory, for small sets that are read in many epochs.

Shapes: n samples, N samples of a batch, T steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

import numpy as np

from videotag.datasets.batches import Batch, OnError
from videotag.registry import MASK


class MemoryDataset:
    """Dataset of samples that were read before; see videotag.datasets.batches.Dataset.

    Args:
        batches: Batches of all samples, at least one.

    Attributes:
        ids: Ids of the n samples.
        labels: (n, C) or (n,), as in Batch.
        digest: Empty, as only lists have a digest.
        made_by: Empty.
    """

    digest = ""
    made_by: Mapping[str, Mapping[str, str]] = {}

    def __init__(self, batches: Iterable[Batch]) -> None:
        self.ids: list[str] = []
        self._inputs: list[dict[str, np.ndarray]] = []  # of each sample, without padding or masks
        labels = []
        for batch in batches:
            self.ids += batch.ids
            labels.append(batch.labels)
            self._inputs += [_sample(batch, row) for row in range(len(batch.ids))]
        self.labels = np.concatenate(labels)
        self._masked = {name.removesuffix(MASK) for name in batch.inputs if name.endswith(MASK)}

    @cached_property
    def sizes(self) -> np.ndarray:
        """(n,) int64, length of the longest sequence of every sample; 0 without any."""
        lengths = ([len(x[name]) for name in self._masked] for x in self._inputs)
        return np.array([max(each, default=0) for each in lengths], np.int64)

    def __len__(self) -> int:
        """The number of samples n."""
        return len(self.ids)

    def shuffled(self, rng: np.random.Generator) -> np.ndarray:
        """(n,) int64, a uniformly random order of the sample numbers."""
        return rng.permutation(len(self))

    def batches(
        self,
        groups: Iterable[np.ndarray],
        *,
        on_error: OnError | None = None,
        seed: tuple[int, int] | None = None,
    ) -> Iterator[Batch]:
        """A batch per group (N,) of sample numbers, see Dataset; no sample fails or is augmented."""
        for group in groups:
            samples = [self._inputs[index] for index in group]
            inputs: dict[str, np.ndarray] = {}
            for name in samples[0]:
                arrays = [sample[name] for sample in samples]
                if name not in self._masked:
                    inputs[name] = np.stack(arrays)
                    continue
                lengths = np.array([len(x) for x in arrays])
                longest = max(1, int(lengths.max()))
                inputs[name] = np.zeros((len(arrays), longest, *arrays[0].shape[1:]), arrays[0].dtype)
                for row, x in zip(inputs[name], arrays, strict=True):
                    row[: len(x)] = x
                inputs[name + MASK] = np.arange(longest) < lengths[:, None]  # (N, T)
            yield Batch([self.ids[index] for index in group], inputs, self.labels[group])

    def means(self, name: str) -> np.ndarray:
        """Means (n, D) float32 of a sequence over the steps of each sample; 0 for a sample without any."""
        return np.stack([x[name].sum(axis=0) / max(1, len(x[name])) for x in self._inputs]).astype(np.float32)

    def subset(self, rows: np.ndarray) -> MemoryDataset:
        """The dataset of some samples, by their numbers (m,), m >= 1; shares their arrays."""
        other = MemoryDataset.__new__(MemoryDataset)
        other.ids = [self.ids[row] for row in rows]
        other.labels = self.labels[rows]
        other._inputs = [self._inputs[row] for row in rows]
        other._masked = self._masked
        return other


def _sample(batch: Batch, row: int) -> dict[str, np.ndarray]:
    """The inputs of a sample, sequences without their padding."""
    inputs = {}
    for name, x in batch.inputs.items():
        if name.endswith(MASK):
            continue
        mask = batch.inputs.get(name + MASK)
        inputs[name] = (x[row] if mask is None else x[row, : int(mask[row].sum())]).copy()
    return inputs
