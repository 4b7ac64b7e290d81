"""Checks that a class implements an interface, with messages for the author of the class."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any


def check_base(cls: Any, base: str) -> None:
    """Checks that a class has a base class.

    Args:
        cls: Class to check.
        base: Qualified name of the base class, which thus need not be imported.

    Raises:
        TypeError: The class is not one, or lacks the base class.
    """
    if not isinstance(cls, type) or _find_base(cls, base) is None:
        raise TypeError(f"{getattr(cls, '__name__', repr(cls))} is not a subclass of {base}")


def check_methods(
    cls: type, required: Mapping[str, tuple[str, ...]], *, base: str, inheritable: tuple[str, ...] = ()
) -> None:
    """Checks that a class has methods that accept their arguments.

    Args:
        cls: Class to check; has the base class.
        required: Map from methods to the names of their positional arguments, with "self".
        base: Qualified name of the base class.
        inheritable: Methods that the base class implements.

    Raises:
        TypeError: A method is missing, or takes other arguments.
    """
    base_class = _find_base(cls, base)
    for method, names in required.items():
        form = f"{method}({', '.join(names)})"
        function = inspect.getattr_static(cls, method, None)
        inherited = inspect.getattr_static(base_class, method, None)
        if function is None or (function is inherited and method not in inheritable):
            raise TypeError(f"{cls.__name__} lacks the method {form}")
        if isinstance(function, staticmethod):
            function, names = function.__func__, names[1:]
        elif isinstance(function, classmethod):
            function = function.__func__
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):  # a decorator's object without one
            continue
        try:
            signature.bind(*names)
        except TypeError as error:
            raise TypeError(f"{cls.__name__}.{method} is called as {form}: {error}") from None


def _find_base(cls: type, name: str) -> type | None:
    return next((each for each in cls.__mro__ if f"{each.__module__}.{each.__qualname__}" == name), None)
