"""Published weight files: their names beside ours, for reading them and for writing them.

The maps are data alone: nothing is loaded here. A model lists the layouts it knows (`layouts()`), and may say
what to do about weights of another network (`remedy(state)`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np


@dataclass(frozen=True)
class Layout:
    """How one system names the arrays of a network.

    Attributes:
        name: of the system.
        names: our name -> theirs.
        prefix: stands before all their names in files of the whole model, and may be missing.
        transposed: our names of the arrays that they store the other way round.
        ignored: pattern of their names that hold nothing of the network.
    """

    name: str
    names: Mapping[str, str]
    prefix: str = ""
    transposed: frozenset[str] = field(default_factory=frozenset)
    ignored: str = r"(?!)"  # matches nothing

    def count(self, state: Iterable[str]) -> int:
        """How many names of the layout are among those of a file."""
        return len(set(self.names.values()) & {name.removeprefix(self.prefix) for name in state})

    def adapt(self, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """A file's arrays under our names; a name that is not of the layout stays as it is."""
        own = {theirs: ours for ours, theirs in self.names.items()}
        adapted = {}
        for name, array in state.items():
            theirs = name.removeprefix(self.prefix)
            if not re.fullmatch(self.ignored, theirs):
                ours = own.get(theirs, name)
                adapted[ours] = array.T if ours in self.transposed else array
        return adapted

    def publish(self, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Our arrays under their names: the inverse of adapt."""
        return {
            self.prefix + self.names[name]: array.T if name in self.transposed else array
            for name, array in state.items()
        }

    def inside(self, prefix: str) -> Layout:
        """The layout of a network that holds this one's as its part `prefix`, and the classifier as "fc."."""

        def placed(name: str) -> str:
            return name if name.startswith("fc.") else prefix + name

        names = {placed(ours): theirs for ours, theirs in self.names.items()}
        return replace(self, names=names, transposed=frozenset(map(placed, self.transposed)))


def find_layout(layouts: Iterable[Layout], own: Iterable[str], state: Iterable[str]) -> Layout | None:
    """The layout that a file is written in: the one with the most names in it; None for our own."""
    state = list(state)
    best, most = None, len(set(own) & set(state))
    for layout in layouts:
        if layout.count(state) > most:
            best, most = layout, layout.count(state)
    return best
