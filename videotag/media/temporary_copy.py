"""Media in memory or in an open file -> a file with a name, which FFmpeg can seek in and open again."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TypeAlias

from videotag.atomic import temporary_folder
from videotag.errors import MediaError, OutputError

#: The content of a media file, or a binary file open for reading.
MediaBytes: TypeAlias = bytes | bytearray | memoryview | IO[bytes]


@contextlib.contextmanager
def copied_to_file(source: MediaBytes, name: str) -> Iterator[Path]:
    """Path of a temporary copy, which is deleted when the block ends.

    Args:
        source: Content; an open file is read from where it stands to its end.
        name: What messages call the source.

    Raises:
        MediaError: The file is not binary or cannot be read, or the copy cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            path = stack.enter_context(temporary_folder()) / "media"
            with path.open("wb") as copy:
                if isinstance(source, bytes | bytearray | memoryview):
                    copy.write(source)
                else:
                    shutil.copyfileobj(source, copy, 2**20)
                    if not copy.tell():
                        raise MediaError(f"{name}: nothing left to read; seek to its beginning first")
        except (OSError, ValueError, BufferError, OutputError) as error:
            raise MediaError(
                f"{name}: cannot be copied into {tempfile.gettempdir()} ({error}); give a path instead, "
                "or set TMPDIR to another folder"
            ) from error
        except (TypeError, AttributeError) as error:
            raise MediaError(
                f"{name}: expected a path, an array of frames, bytes, or a file opened as 'rb' ({error})"
            ) from error
        yield path
