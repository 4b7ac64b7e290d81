"""Plugins: user-defined models, readers and backbones outside the package.

    videotag train --plugin raw_gru.py --config=raw_gru.yaml

A plugin is a Python file that registers its classes, see videotag.registry. Plugins are only loaded by
--plugin, by load_plugin, or by an entry point of an installed package in the group "videotag.plugins".
Configs and checkpoints record the names of the plugins that they need, but never cause code to run.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.metadata
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from videotag.errors import PluginError
from videotag.registry import num_entries, registering
from videotag.safe_text import reason_of

ENTRY_POINTS = "videotag.plugins"
_MODULE = "videotag_plugin_{}"  # the prefix avoids clashes with other modules
_plugin_modules: set[str] = set()  # modules and packages with the code of plugins


def load_plugin(path: str | Path) -> None:
    """Executes a plugin file; does nothing if it is already loaded.

    During execution, it can import files in its folder. If it raises an error, its registrations are undone.

    Args:
        path: Path of the file, NAME.py; configs record NAME.

    Raises:
        PluginError: The file does not exist, its name is taken, its code raises an error, or it registers
            nothing.
    """
    file = Path(path).resolve()
    name = _MODULE.format(file.stem)
    loaded = sys.modules.get(name)
    if loaded is not None and Path(str(loaded.__file__)) == file:
        return
    if not file.is_file():
        raise PluginError(f"{path}: no such plugin; give a Python file that registers models or readers")
    spec = importlib.util.spec_from_file_location(name, file) if file.suffix == ".py" else None
    if spec is None or spec.loader is None:
        raise PluginError(f"{path}: not a Python file; rename it to {file.stem}.py if it is one")
    if loaded is not None:
        raise PluginError(f"{path}: a plugin of this name is {loaded.__file__}; rename one of the two")
    if importlib.util.find_spec("paddle"):  # before the plugin, which may import Paddle with its messages
        importlib.import_module("videotag.system.quiet_paddle")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    _plugin_modules.add(name)
    loaded_before, count_before = set(sys.modules), num_entries()
    try:
        with registering(file.stem), _importing_from(file.parent):
            spec.loader.exec_module(module)
        if num_entries() == count_before:
            raise PluginError(
                f"{path}: registers nothing; decorate a class with register_model, register_backbone or "
                "register_reader of videotag.registry"
            )
    except BaseException as error:
        del sys.modules[name]
        _plugin_modules.update(_modules_beside(file, set(sys.modules) - loaded_before))
        if isinstance(error, PluginError) or not isinstance(error, Exception | SystemExit):
            raise
        place = plugin_line(error) or path
        raise PluginError(f"{place}: {_reason(error)}; correct the plugin") from error
    _plugin_modules.update(_modules_beside(file, set(sys.modules) - loaded_before))


def _modules_beside(plugin: Path, names: set[str]) -> list[str]:
    """Those of the modules that belong to a plugin, because their files are in its folder."""
    files = {name: getattr(sys.modules[name], "__file__", None) for name in names}
    return [
        name
        for name, file in files.items()
        if file
        and plugin.parent in Path(file).parents
        and "site-packages" not in Path(file).parts
        and not name.startswith("videotag.")  # the plugin may lie beside the package itself
    ]


def plugin_line(error: BaseException) -> str | None:
    """The innermost line of a plugin's code that an error or its cause passed, as FILE:LINE, or None."""
    place = plugin_line(error.__cause__) if error.__cause__ else None
    for frame, line in traceback.walk_tb(error.__traceback__):
        name = str(frame.f_globals.get("__name__"))
        if any(name == each or name.startswith(f"{each}.") for each in _plugin_modules):
            place = f"{frame.f_code.co_filename}:{line}"
    return place


@functools.cache
def load_installed() -> None:
    """Loads the plugins of installed packages; further calls do nothing.

    Raises:
        PluginError: A plugin raises an error.
    """
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            with registering(point.name):
                point.load()
                package = point.module.partition(".")[0]
                is_namespace = getattr(sys.modules.get(package), "__file__", None) is None
                _plugin_modules.add(point.module if is_namespace else package)
        except (Exception, SystemExit) as error:
            where = f"plugin {point.name} of an installed package"
            raise PluginError(f"{where}: {_reason(error)}; update or uninstall it") from error


@contextlib.contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    """Context in which files of a folder can be imported, with lower priority than installed packages."""
    sys.path.append(str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {reason_of(error, limit=300)}"
