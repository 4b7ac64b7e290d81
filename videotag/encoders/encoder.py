"""Interfaces of encoders, which turn sounds and texts into features.

Shapes: N texts, R rows of a sound, D feature width.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from videotag.media.sound import SoundBlock


class Encoder(ABC):
    """A network with its weights, loaded once for many samples.

    Attributes:
        lock: Lock that is held while the network runs, as networks are not thread-safe.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()

    @abstractmethod
    def stamp(self) -> dict[str, Any]:
        """What determines the features besides the sample, such as network, weights and rate, as JSON."""


class TextEncoder(Encoder):
    """Turns texts into vectors."""

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors (N, D) float32 of N texts, N >= 1."""


class SoundEncoder(Encoder):
    """Turns sounds into rows of features."""

    @abstractmethod
    def stream(self) -> SoundStream:
        """A stream that encodes the next sound."""


class SoundStream(ABC):
    """Encodes one sound while it is decoded: takes its blocks in order, then `finish` is called once."""

    @abstractmethod
    def add_sound(self, block: SoundBlock) -> None:
        """Takes the next block."""

    @abstractmethod
    def finish(self) -> np.ndarray:
        """The rows (R, D) of the sound; R is 0 if it is too short for a row."""
