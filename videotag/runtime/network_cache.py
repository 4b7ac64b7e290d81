"""Disk cache of compiled networks, so that only the first start compiles.

An entry is a subfolder of `compiled` in the cache folder, named by a digest of everything that determines its
content: weights, network, precision, backend and version, and the CPU. Its `manifest.json`, written last,
contains the sha256 of each file. Entries that do not match it (damaged, truncated, incomplete) are recreated.
Backends only receive verified files, and nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from videotag.errors import VideotagError, WeightsError
from videotag.system.atomic import open_atomic, temporary_folder, write_text
from videotag.system.download import file_digest
from videotag.system.json_text import read_json
from videotag.weights import cache_dir

MANIFEST_FILE = "manifest.json"
_NUMBER_FILE = "number.json"
MAX_BYTES = 4 << 30  # total size of all entries

logger = logging.getLogger(__name__)


def compiled_dir() -> Path:
    """The folder of all entries.

    Raises:
        WeightsError: There is no place for a cache folder.
    """
    return cache_dir() / "compiled"


def digest_of(parts: Mapping[str, object]) -> str:
    """The name of the cache entry with this key."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def load_entry(parts: Mapping[str, object]) -> dict[str, Path] | None:
    """The verified files of an entry by name; None if there is no intact entry."""
    try:
        folder = compiled_dir() / digest_of(parts)
        if not (folder / MANIFEST_FILE).exists():
            return None
        digests = read_json(folder / MANIFEST_FILE, error=WeightsError, remedy="rebuilt")
        files = {name: folder / Path(name).name for name in digests}
        if not all(file_digest(file) == digests[name] for name, file in files.items()):
            logger.info("%s: damaged, rebuilt", folder)
            return None
        os.utime(folder)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, VideotagError) as error:  # also of JSON that is no dict of texts
        logger.info("cache of compiled networks: not used (%s)", " ".join(str(error).split()))
        return None
    return files


def store_entry(parts: Mapping[str, object], files: Mapping[str, bytes | memoryview | Path]) -> None:
    """Writes an entry; failures (a read-only or full disk) are only logged, as they just slow down the start.

    Args:
        parts: Key of the entry, everything that determines its content.
        files: Content, or path of a file to copy, by name.
    """
    try:
        folder = compiled_dir() / digest_of(parts)
        digests = {}
        for name, content in files.items():
            _write(folder / name, content)
            digests[name] = file_digest(folder / name)
        write_text(folder / MANIFEST_FILE, json.dumps(digests))
        evict_least_recently_used(keep=folder.name)
    except (OSError, VideotagError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        reason = getattr(cause, "strerror", None) or " ".join(str(error).split())
        _warn_once(reason)


@functools.cache
def _warn_once(reason: str) -> None:
    """Warns about an entry that could not be written, once per reason."""
    place: object = "a cache"
    with contextlib.suppress(VideotagError):
        place = compiled_dir()
    logger.warning(
        "compiled networks are not kept in %s (%s), so each start compiles them; make room there, or set "
        "VIDEOTAG_CACHE to another folder",
        place,
        reason,
    )


def evict_least_recently_used(*, keep: str, max_bytes: int = MAX_BYTES) -> None:
    """Evicts the least recently used entries until the others fit into max_bytes.

    Args:
        keep: Name of an entry that is never evicted.
        max_bytes: Maximum total size of all entries in bytes.
    """
    entries = [entry for entry in compiled_dir().iterdir() if entry.is_dir()]
    sizes, last_used = {}, {}
    for entry in entries:
        with contextlib.suppress(FileNotFoundError):  # another process evicts it
            last_used[entry] = entry.stat().st_mtime
            sizes[entry] = sum(file.stat().st_size for file in entry.iterdir())
    for entry in sorted(last_used, key=last_used.__getitem__):
        if sum(sizes.values()) <= max_bytes:
            break
        if entry.name != keep:
            shutil.rmtree(entry, ignore_errors=True)
            sizes.pop(entry, None)


def cached_number(parts: Mapping[str, object], measure: Callable[[], float]) -> float:
    """The number stored under a key; measured and stored if there is none.

    Args:
        parts: Key of the entry, everything that determines the number.
        measure: Function that returns the number.
    """
    files = load_entry(parts) or {}
    with contextlib.suppress(KeyError, VideotagError, TypeError, ValueError):
        return float(read_json(files[_NUMBER_FILE], error=WeightsError, remedy="measured again"))
    number = measure()
    store_entry(parts, {_NUMBER_FILE: json.dumps(number).encode()})
    return number


@contextlib.contextmanager
def cached_file(parts: Mapping[str, object], name: str, make: Callable[[], bytes]) -> Iterator[Path]:
    """Context with the only file of an entry, created if missing; a temporary file if caching fails.

    Args:
        parts: Key of the entry, everything that determines its content.
        name: Name of the file.
        make: Function that creates the content.
    """
    found = load_entry(parts) or {}
    if name not in found:
        content = make()
        store_entry(parts, {name: content})
        found = load_entry(parts) or {}
        if name not in found:
            with temporary_folder() as folder:
                path = folder / name
                path.write_bytes(content)
                del content  # which is large
                yield path
            return
        del content
    yield found[name]


def _write(path: Path, content: bytes | memoryview | Path) -> None:
    with open_atomic(path) as file:
        if isinstance(content, Path):
            with content.open("rb") as source:
                shutil.copyfileobj(source, file, 1 << 20)
        else:
            file.write(content)
