"""A file of the web on the disk: resumed, bounded, checked, and only then in its place.

Beside FILE lie FILE.partial (what has arrived), FILE.partial.json (of which file it is a part) and FILE.lock
(held by the process that writes). A process may be killed at any moment: the next one goes on.
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

WAITS_SEC = (1.0, 2.0, 4.0)  # one wait before each further try
TIMEOUT_SEC = 30.0
MAX_SIZE = 8 << 30  # bytes, of a file whose size is not declared
_CHUNK = 1 << 20
_LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
_TRY_AGAIN = (408, 425, 429)  # HTTP's own words for "later"; and all from 500

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checksum:
    """What the digest of a file begins with.

    Attributes:
        algorithm: "sha256" or "md5".
        digits: hex, in lower case; all of them or the first ones.
        given_by: who says so, for the error's text.
    """

    algorithm: str
    digits: str
    given_by: str

    def check(self, path: Path, *, shown_as: Path, remedy: str) -> None:
        """Reads the file.

        Raises:
            WeightsError: its digest is another; the text says both, and the remedy.
        """
        found = file_digest(path, self.algorithm)
        if not found.startswith(self.digits):
            raise WeightsError(
                f"{shown_as}: its {self.algorithm} is {found}, expected {self.digits} "
                f"({self.given_by}); {remedy}"
            )


class _Interrupted(Exception):  # noqa: N818 - no error of the user's; it leads to another try
    """The transfer did not come to its end."""


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """The digest of a file's content as hex digits, 64 of sha256."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with open_regular(path, error=WeightsError) as file:
        while block := file.read(_CHUNK):
            digest.update(block)
    return digest.hexdigest()


def download(
    url: str,
    target: Path,
    *,
    size: int | None = None,
    checksum: Checksum | None = None,
    waits_sec: tuple[float, ...] = WAITS_SEC,
    timeout_sec: float = TIMEOUT_SEC,
) -> None:
    """Fetches `url` to `target`, unless it is there; goes on where an earlier try broke off.

    Args:
        url: https; http from this machine alone.
        target: missing parent folders are made.
        size: in bytes; None takes the server's word, up to MAX_SIZE.
        checksum: of the whole file; None checks the length alone.
        waits_sec: as many further tries are made, each after its wait.
        timeout_sec: without a byte, after which a try is given up.

    Raises:
        WeightsError: it cannot be fetched, or what came is not the file; nothing of the latter is kept.
        OutputError: the folder cannot be written.
    """
    check_address(url)
    fetch = _Fetch(url, target, size, timeout_sec)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target.with_name(f"{target.name}.lock")):
            if target.is_file():  # another process was faster
                return
            _try_again_and_again(fetch, waits_sec)
            _put_in_place(fetch, checksum)
    except OSError as error:
        raise OutputError(
            f"{target}: cannot write ({error.strerror or error}); free some space there, or set "
            "VIDEOTAG_CACHE to a folder that can be written"
        ) from error


def check_address(url: str) -> None:
    """Refuses what is not fetched.

    Raises:
        WeightsError: neither https nor http from this machine.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        allowed = bool(parts.hostname and re.fullmatch("[!-~]+", url)) and (
            parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOCAL_HOSTS)
        )
    except ValueError:  # a host in half a pair of brackets
        allowed = False
    if not allowed:
        raise WeightsError(f"{escaped(url)}: not fetched; expected an address that begins with https://")


def _try_again_and_again(fetch: _Fetch, waits_sec: tuple[float, ...]) -> None:
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


def _put_in_place(fetch: _Fetch, checksum: Checksum | None) -> None:
    if checksum:
        try:
            checksum.check(
                fetch.partial, shown_as=fetch.target, remedy=f"{fetch.url} is another file; nothing is kept"
            )
        except WeightsError:
            fetch.discard()
            raise
    fetch.partial.replace(fetch.target)
    fetch.notes.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Fetch:
    """One file on its way; the attributes are those of `download`."""

    url: str
    target: Path
    size: int | None
    timeout_sec: float

    @property
    def partial(self) -> Path:
        return self.target.with_name(self.target.name + PARTIAL_MARK)

    @property
    def notes(self) -> Path:
        return self.target.with_name(f"{self.target.name}{PARTIAL_MARK}.json")

    def run(self) -> None:
        """One try: brings the partial file to its full length.

        Raises:
            _Interrupted: another try may succeed.
            WeightsError: none will.
        """
        done, total, validator = self._arrived()
        if done and done == total:
            return
        headers = {"User-Agent": "videotag", "Accept-Encoding": "identity"}
        if done:
            headers |= {"Range": f"bytes={done}-", "If-Range": validator}
        with self._answer(urllib.request.Request(self.url, headers=headers)) as answer:
            if answer.status == 206 and done:
                self._check_continuation(answer, done, total, validator)
            elif answer.status == 200:  # the whole file: the server ignores Range, or has another file now
                done, total = 0, self._start(answer)
            else:
                raise self.failed(f"the server answers {answer.status} {answer.reason}")
            self._receive(answer, done, total)

    def discard(self) -> None:
        """Forgets what has arrived."""
        self.notes.unlink(missing_ok=True)
        self.partial.unlink(missing_ok=True)

    def failed(self, why: str) -> WeightsError:
        """The error that says what a person can do without this program."""
        return WeightsError(f"{self.url}: {why}; fetch it yourself and put it at {self.target.absolute()}")

    def _arrived(self) -> tuple[int, int, str]:
        """Bytes of an earlier try, of how many, and their file's validator; zeros if they are of no use."""
        try:
            notes = read_json(self.notes, error=WeightsError, remedy="fetched anew")
            done, total, validator = self.partial.stat().st_size, notes["total"], notes["validator"]
            is_typed = type(total) is int and isinstance(validator, str)
            fits = is_typed and notes["url"] == self.url and total == (self.size or total) and done <= total
        except (FileNotFoundError, WeightsError, KeyError, TypeError):
            return 0, 0, ""
        return (done, total, validator) if fits and validator else (0, 0, "")

    def _start(self, answer: Any) -> int:
        """Makes an empty partial file for a whole answer, and returns the bytes to come."""
        told = answer.length  # of Content-Length; None without one
        total = told if self.size is None else self.size
        if total is None:
            raise self.failed("the server does not say how long the file is")
        if told is not None and told != total:
            raise self.failed(f"the server's file has {told} bytes, expected {total}")
        if total > MAX_SIZE:
            raise self.failed(f"the server's file has {total} bytes, more than any weight file")
        self.notes.unlink(missing_ok=True)
        self.partial.write_bytes(b"")
        notes = {"url": self.url, "total": total, "validator": _validator(answer)}
        write_text(self.notes, json.dumps(notes))  # last: notes beside bytes of another file never lie there
        return int(total)

    def _check_continuation(self, answer: Any, done: int, total: int, validator: str) -> None:
        """Makes sure that an answer 206 goes on where the partial file ends."""
        told = answer.headers.get("Content-Range", "")
        if told != f"bytes {done}-{total - 1}/{total}" or _validator(answer) not in ("", validator):
            self.discard()
            raise _Interrupted(f"the server goes on wrongly ({told[:80]!r} after {done} of {total} bytes)")

    def _receive(self, answer: Any, done: int, total: int) -> None:
        with (
            self.partial.open("ab") as file,
            track_bytes(self.target.name, done=done, total=total) as advance,
        ):
            while chunk := self._read(answer):
                done += len(chunk)
                if done > total:
                    self.discard()
                    raise self.failed(f"the server sends more than {total} bytes; nothing kept")
                file.write(chunk)
                file.flush()  # what has arrived outlives a kill
                advance(len(chunk))
            os.fsync(file.fileno())
        if done < total:
            raise _Interrupted(f"the connection ended after {done} of {total} bytes")

    def _read(self, answer: Any) -> bytes:
        with _network():
            chunk: bytes = answer.read1(_CHUNK)
            return chunk

    @contextlib.contextmanager
    def _answer(self, request: urllib.request.Request) -> Iterator[Any]:
        try:
            with _network():
                answer = urllib.request.build_opener(_CheckedRedirects).open(
                    request, timeout=self.timeout_sec
                )
        except urllib.error.HTTPError as error:
            error.close()
            why = f"the server answers {error.code} {error.reason}"
            if error.code == 416:  # it has no such range: its file is another one now
                self.discard()
            elif error.code < 500 and error.code not in _TRY_AGAIN:
                raise self.failed(why) from error
            raise _Interrupted(why) from error
        with answer:
            yield answer


class _CheckedRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect to an address that would not be fetched itself."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        check_address(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@contextlib.contextmanager
def _network() -> Iterator[None]:
    """Tells the network's errors from the disk's, which are OSError too."""
    try:
        yield
    except urllib.error.HTTPError:
        raise
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        text = " ".join(str(reason).split())[:200]
        raise _Interrupted(f"cannot be fetched ({text or type(reason).__name__})") from error


def _validator(answer: Any) -> str:
    """What If-Range may name: a strong ETag, else the date; "" if there is neither."""
    etag = answer.headers.get("ETag", "")
    return etag if re.fullmatch(r'"[^"\r\n]*"', etag) else answer.headers.get("Last-Modified", "")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds a file's lock, which the system frees when the process ends in whatever way."""
    with path.open("a") as file:
        if not lock(file.fileno(), path):
            logger.info("%s: another process is fetching it; waiting", path.with_suffix(""))
            lock(file.fileno(), path, wait=True)
        yield
