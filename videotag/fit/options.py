"""Options of a fit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from videotag.fit.samples import TEST_SHARE
from videotag.registry import Task


@dataclass(frozen=True)
class FitOptions:
    """Options of a fit.

    Attributes:
        save_dir: Folder of everything that is written.
        task: Task; None derives it from the labels.
        extractor_weights: Weights of the first stage; None takes OWN_EXTRACTOR if it exists, else the
            built-in one.
        extractor_config: Config of the first stage; None takes the one beside its weights.
        seg_num: Number of frames per video; None derives it from the durations.
        test_share: Share of the test set, unless the source fixes it; see assign.
        seconds: Time limit in seconds; None for none.
        seed: Seed of splits, folds and training.
        overwrite: Whether outputs of other programs or sources in save_dir may be replaced.
    """

    save_dir: Path
    task: Task | None = None
    extractor_weights: str | None = None
    extractor_config: str | None = None
    seg_num: int | None = None
    test_share: float = TEST_SHARE
    seconds: float | None = None
    seed: int = 0
    overwrite: bool = False
