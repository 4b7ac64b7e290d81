"""Layouts of published weight files: maps between their parameter names and ours.

This file does no I/O. A model lists the layouts that it supports (`layouts()`) and may suggest a remedy for
weights of another network (`remedy(state)`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np


@dataclass(frozen=True)
class Conversion:
    """How the axes of a published array differ from ours.

    Attributes:
        to_ours: Function from their array to ours, of any shape.
        to_theirs: Its inverse.
    """

    to_ours: Callable[[np.ndarray], np.ndarray]
    to_theirs: Callable[[np.ndarray], np.ndarray]


def permuted(axes: tuple[int, ...]) -> Conversion:
    """The conversion of arrays of which `axes` gives their axes in our order."""
    inverse = tuple(int(axis) for axis in np.argsort(axes))
    return Conversion(lambda array: array.transpose(axes), lambda array: array.transpose(inverse))


def squeezed(axis: int) -> Conversion:
    """The conversion of arrays that have one more axis in their files, of length 1."""
    return Conversion(
        lambda array: np.squeeze(array, axis) if array.shape[axis : axis + 1] == (1,) else array,
        lambda array: np.expand_dims(array, axis),
    )


@dataclass(frozen=True)
class Layout:
    """Names and orientation of a network's arrays in the files of another system.

    Attributes:
        name: Name of the system.
        names: Map from our parameter names to theirs.
        prefix: Optional prefix of all their names in files of the whole model.
        transposed: Our names of the 2-D arrays that they store transposed.
        conversions: Our names of other arrays whose axes differ -> how they differ.
        ignored: Regular expression of their names that do not belong to the network.
    """

    name: str
    names: Mapping[str, str]
    prefix: str = ""
    transposed: frozenset[str] = field(default_factory=frozenset)
    conversions: Mapping[str, Conversion] = field(default_factory=dict)
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
                adapted[ours] = self.conversions[ours].to_ours(array) if ours in self.conversions else array
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
            if name in self.conversions:
                array = self.conversions[name].to_theirs(array)
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
            conversions={placed(ours): one for ours, one in self.conversions.items()},
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
