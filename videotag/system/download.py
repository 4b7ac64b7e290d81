"""Downloads a file: resumable, limited in size, and moved to its final path only after verification.

The download uses these files next to FILE: FILE.partial (the bytes received so far), FILE.partial.json (the
URL and validator of these bytes) and FILE.lock (locked by the writing process). After a kill at any moment,
the next process resumes.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import logging
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videotag.errors import OutputError, WeightsError
from videotag.safe_text import escaped
from videotag.system.atomic import PARTIAL_MARK, write_text
from videotag.system.folder_lock import lock
from videotag.system.json_text import read_json
from videotag.system.progress import track_bytes
from videotag.system.regular_file import open_regular

RETRY_WAITS_SEC = (1.0, 2.0, 4.0)  # the wait before each retry
TIMEOUT_SEC = 30.0
MAX_BYTES = 8 << 30  # limit for any file
_CHUNK_BYTES = 1 << 20
_LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
_RETRIABLE_STATUS = (408, 425, 429)  # in addition to all from 500 on

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checksum:
    """The expected digest of a file, or the beginning of it.

    Attributes:
        algorithm: Hash algorithm, "sha256" or "md5".
        digits: Lower-case hex digits, all or the first ones.
        given_by: Source of the digest, named in error messages.
    """

    algorithm: str
    digits: str
    given_by: str

    def check(self, path: Path, *, shown_as: Path, remedy: str) -> None:
        """Compares the digest of a file.

        Args:
            path: File to read.
            shown_as: Path named in the error message.
            remedy: What to do if the digest differs; ends the message.

        Raises:
            WeightsError: The digest differs.
        """
        digest = file_digest(path, self.algorithm)
        if not digest.startswith(self.digits):
            raise WeightsError(
                f"{shown_as}: its {self.algorithm} is {digest}, expected {self.digits} "
                f"({self.given_by}); {remedy}"
            )


class _Interrupted(Exception):  # noqa: N818 - not shown to users, but leads to a retry
    """The transfer was interrupted; a retry may succeed."""


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """The digest of a file's content as lower-case hex digits, 64 for sha256.

    Args:
        path: File to read.
        algorithm: Name of a hashlib algorithm.

    Raises:
        WeightsError: The path is not a regular file.
        OSError: The file does not exist or cannot be read.
    """
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with open_regular(path, error=WeightsError) as file:
        while block := file.read(_CHUNK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def download(
    url: str,
    target: Path,
    *,
    size: int | None = None,
    checksum: Checksum | None = None,
    waits_sec: tuple[float, ...] = RETRY_WAITS_SEC,
    timeout_sec: float = TIMEOUT_SEC,
) -> None:
    """Downloads `url` to `target`, unless `target` exists; resumes an interrupted download.

    Args:
        url: An https address, or an http address on this machine.
        target: Path of the file; missing parent folders are created.
        size: Expected size in bytes; None accepts the size that the server declares.
        checksum: Checksum of the whole file; None verifies only the size.
        waits_sec: Seconds to wait before each retry; its length is the number of retries.
        timeout_sec: Seconds without data after which an attempt is abandoned.

    Raises:
        WeightsError: The file cannot be downloaded, or its size or checksum is wrong; a file with a wrong
            checksum is deleted.
        OutputError: The folder cannot be written.
    """
    check_address(url)
    fetch = _Fetch(url, target, size, timeout_sec)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target.with_name(f"{target.name}.lock")):
            if target.is_file():  # another process has downloaded it
                return
            _fetch_with_retries(fetch, waits_sec)
            _verify_and_move(fetch, checksum)
    except OSError as error:
        raise OutputError(
            f"{target}: cannot write ({error.strerror or error}); free some space there, or set "
            "VIDEOTAG_CACHE to a folder that can be written"
        ) from error


def check_address(url: str) -> None:
    """Checks that an address may be fetched.

    Raises:
        WeightsError: It is neither an https address nor an http address on this machine.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        allowed = bool(parts.hostname and re.fullmatch("[!-~]+", url)) and (
            parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOCAL_HOSTS)
        )
    except ValueError:  # unbalanced brackets around the host
        allowed = False
    if not allowed:
        raise WeightsError(f"{escaped(url)}: not fetched; expected an address that begins with https://")


def _fetch_with_retries(fetch: _Fetch, waits_sec: tuple[float, ...]) -> None:
    for number, wait_sec in enumerate([*waits_sec, None], start=1):
        try:
            fetch.run()
        except _Interrupted as error:
            if wait_sec is None:
                raise fetch.failed(f"{error}, {number} times") from error
            logger.warning("%s: %s; trying again", fetch.url, error)
            time.sleep(wait_sec)
        else:
            return


def _verify_and_move(fetch: _Fetch, checksum: Checksum | None) -> None:
    if checksum:
        try:
            checksum.check(
                fetch.partial,
                shown_as=fetch.target,
                remedy=f"{fetch.url} has different content; the download was discarded",
            )
        except WeightsError:
            fetch.discard()
            raise
    fetch.partial.replace(fetch.target)
    fetch.metadata.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Fetch:
    """A download in progress; the attributes are the arguments of `download`."""

    url: str
    target: Path
    size: int | None
    timeout_sec: float

    @property
    def partial(self) -> Path:
        """Path of the bytes received so far."""
        return self.target.with_name(self.target.name + PARTIAL_MARK)

    @property
    def metadata(self) -> Path:
        """Path of the JSON file that records the URL, size and validator of the received bytes."""
        return self.target.with_name(f"{self.target.name}{PARTIAL_MARK}.json")

    def run(self) -> None:
        """Makes one attempt to complete the partial file.

        Raises:
            _Interrupted: A retry may succeed.
            WeightsError: A retry cannot succeed.
        """
        done, total, validator = self._resume_point()
        if done and done == total:
            return
        headers = {"User-Agent": "videotag", "Accept-Encoding": "identity"}
        if done:
            headers |= {"Range": f"bytes={done}-", "If-Range": validator}
        with self._open(urllib.request.Request(self.url, headers=headers)) as response:
            if response.status == 206 and done:
                self._check_continuation(response, done, total, validator)
            elif response.status == 200:  # the whole file: the server ignores Range, or the file has changed
                done, total = 0, self._start(response)
            else:
                raise self.failed(f"the server returned {response.status} {response.reason}")
            self._receive(response, done, total)

    def discard(self) -> None:
        """Deletes the bytes received so far."""
        self.metadata.unlink(missing_ok=True)
        self.partial.unlink(missing_ok=True)

    def failed(self, reason: str) -> WeightsError:
        """The error for a failed download; its remedy is to download the file manually."""
        return WeightsError(f"{self.url}: {reason}; fetch it yourself and put it at {self.target.absolute()}")

    def _resume_point(self) -> tuple[int, int, str]:
        """(bytes received, total, validator) of an earlier attempt; (0, 0, "") if it cannot be resumed."""
        try:
            metadata = read_json(self.metadata, error=WeightsError, remedy="download it again")
            done, total, validator = self.partial.stat().st_size, metadata["total"], metadata["validator"]
            is_typed = type(total) is int and isinstance(validator, str)
            fits = (
                is_typed and metadata["url"] == self.url and total == (self.size or total) and done <= total
            )
        except (FileNotFoundError, WeightsError, KeyError, TypeError):
            return 0, 0, ""
        return (done, total, validator) if fits and validator else (0, 0, "")

    def _start(self, response: Any) -> int:
        """Creates an empty partial file for a whole response; returns the number of bytes to receive."""
        declared = response.length  # from Content-Length; None if the header is missing
        total = declared if self.size is None else self.size
        if total is None:
            raise self.failed("the server does not declare the size of the file")
        if declared is not None and declared != total:
            raise self.failed(f"the server's file has {declared} bytes, expected {total}")
        if total > MAX_BYTES:
            raise self.failed(f"the server's file has {total} bytes, more than any weight file")
        self.metadata.unlink(missing_ok=True)
        self.partial.write_bytes(b"")
        metadata = {"url": self.url, "total": total, "validator": _validator(response)}
        write_text(self.metadata, json.dumps(metadata))  # last, so that it never describes older bytes
        return int(total)

    def _check_continuation(self, response: Any, done: int, total: int, validator: str) -> None:
        """Checks that a response 206 continues where the partial file ends."""
        declared = response.headers.get("Content-Range", "")
        if declared != f"bytes {done}-{total - 1}/{total}" or _validator(response) not in ("", validator):
            self.discard()
            raise _Interrupted(
                f"the server did not continue where requested ({declared[:80]!r} after {done} of {total} "
                "bytes)"
            )

    def _receive(self, response: Any, done: int, total: int) -> None:
        with (
            self.partial.open("ab") as file,
            track_bytes(self.target.name, done=done, total=total) as advance,
        ):
            while chunk := self._read(response):
                done += len(chunk)
                if done > total:
                    self.discard()
                    raise self.failed(f"the server sent more than {total} bytes; the download was discarded")
                file.write(chunk)
                file.flush()  # so that it survives a kill
                advance(len(chunk))
            os.fsync(file.fileno())
        if done < total:
            raise _Interrupted(f"the connection ended after {done} of {total} bytes")

    def _read(self, response: Any) -> bytes:
        with _network_errors():
            chunk: bytes = response.read1(_CHUNK_BYTES)
            return chunk

    @contextlib.contextmanager
    def _open(self, request: urllib.request.Request) -> Iterator[Any]:
        try:
            with _network_errors():
                response = urllib.request.build_opener(_CheckedRedirects).open(
                    request, timeout=self.timeout_sec
                )
        except urllib.error.HTTPError as error:
            error.close()
            reason = f"the server returned {error.code} {error.reason}"
            if error.code == 416:  # the range does not exist, so the file has changed
                self.discard()
            elif error.code < 500 and error.code not in _RETRIABLE_STATUS:
                raise self.failed(reason) from error
            raise _Interrupted(reason) from error
        with response:
            yield response


class _CheckedRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects only to addresses that check_address accepts."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        check_address(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@contextlib.contextmanager
def _network_errors() -> Iterator[None]:
    """Turns network errors into _Interrupted, to distinguish them from disk errors (both are OSErrors)."""
    try:
        yield
    except urllib.error.HTTPError:
        raise
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        text = " ".join(str(reason).split())[:200]
        raise _Interrupted(f"cannot be fetched ({text or type(reason).__name__})") from error


def _validator(response: Any) -> str:
    """The validator for If-Range: a strong ETag, else Last-Modified; "" if there is neither."""
    etag = response.headers.get("ETag", "")
    return etag if re.fullmatch(r'"[^"\r\n]*"', etag) else response.headers.get("Last-Modified", "")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Locks a file during the block; the lock is released when the process ends in any way."""
    with path.open("a") as file:
        if not lock(file.fileno(), path):
            logger.info("%s: another process is downloading it; waiting", path.with_suffix(""))
            lock(file.fileno(), path, wait=True)
        yield
