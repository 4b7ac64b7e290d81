"""Layouts of published weight files: maps between their parameter names and ours.

This file does no I/O. A model lists the layouts that it supports (`layouts()`) and may suggest a remedy for
weights of another network (`remedy(state)`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np


@dataclass(frozen=True)
class Layout:
    """Names and orientation of a network's arrays in the files of another system.

    Attributes:
        name: Name of the system.
        names: Map from our parameter names to theirs.
        prefix: Optional prefix of all their names in files of the whole model.
        transposed: Our names of the 2-D arrays that they store transposed.
        axes: Our names of arrays of more axes -> the order in which their axes become ours.
        ignored: Regular expression of their names that do not belong to the network.
    """

    name: str
    names: Mapping[str, str]
    prefix: str = ""
    transposed: frozenset[str] = field(default_factory=frozenset)
    axes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    ignored: str = r"(?!)"  # matches nothing

    def count(self, state: Iterable[str]) -> int:
        """The number of names of a file that belong to the layout."""
        return len(set(self.names.values()) & {name.removeprefix(self.prefix) for name in state})

    def adapt(self, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Renames a file's arrays to our names, and transposes them where needed.

        Args:
            state: Arrays of any shape by their names; names outside the layout do not change.

        Returns:
            Arrays by our names, without the ignored ones; transposed arrays are views (I, O) of (O, I).
        """
        own = {theirs: ours for ours, theirs in self.names.items()}
        adapted = {}
        for name, array in state.items():
            theirs = name.removeprefix(self.prefix)
            if not re.fullmatch(self.ignored, theirs):
                ours = own.get(theirs, name)
                array = array.T if ours in self.transposed else array
                adapted[ours] = array.transpose(self.axes[ours]) if ours in self.axes else array
        return adapted

    def publish(self, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The inverse of adapt: renames our arrays to their names, with the prefix.

        Args:
            state: Arrays (...) of any shape by our names, all of which belong to the layout.

        Raises:
            KeyError: A name does not belong to the layout.
        """
        published = {}
        for name, array in state.items():
            array = array.T if name in self.transposed else array
            if name in self.axes:
                array = array.transpose(np.argsort(self.axes[name]))
            published[self.prefix + self.names[name]] = array
        return published

    def inside(self, prefix: str) -> Layout:
        """The layout of a network that contains this one as `prefix`, with the classifier as "fc."."""

        def placed(name: str) -> str:
            return name if name.startswith("fc.") else prefix + name

        return replace(
            self,
            names={placed(ours): theirs for ours, theirs in self.names.items()},
            transposed=frozenset(map(placed, self.transposed)),
            axes={placed(ours): axes for ours, axes in self.axes.items()},
        )


def find_layout(layouts: Iterable[Layout], own: Iterable[str], state: Iterable[str]) -> Layout | None:
    """The layout of a file: the one that shares the most names with it.

    Args:
        layouts: Layouts to choose from.
        own: Our parameter names.
        state: Parameter names of the file.

    Returns:
        The layout; None if our own names match at least as well.
    """
    state = list(state)
    best, most = None, len(set(own) & set(state))
    for layout in layouts:
        if layout.count(state) > most:
            best, most = layout, layout.count(state)
    return best
