"""Runs a contestant of the benchmark in its own process, which stays alive from round to round.

The process sets the number of threads before Paddle is imported, and isolates the contestant's memory. Parent
and child exchange lines of JSON: the child answers once when it is ready, and once per measurement. Output of
libraries goes to stderr.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import videotag
from videotag.errors import VideotagError
from videotag.system.cores import MKL_VARIABLE

HERE = Path(__file__).resolve().parent


class BenchError(VideotagError):
    """Something could not be measured."""


class Child:
    """A contestant in its own process; as a context manager, waits until it is ready and ends it.

    The process starts when the object is created, so several can start up in parallel.

    Args:
        spec: "module:Class" in a file beside this one. The class is called with `arguments`; its objects have
            measure(**arguments) -> dict, and may have a dict `facts`.
        environment: Environment variables to set in the child.
        is_plain: Whether to leave MKL's settings unchanged, as a script without videotag would
            (cores.mkl_cpu_type).
        arguments: JSON-serializable arguments of the class.

    Attributes:
        facts: The contestant's `facts`, once it is ready.
        start_sec: Seconds from the start of the process until it was ready.

    Raises:
        BenchError: The child failed, on entering or measuring; the message has its last line of output.
    """

    def __init__(
        self,
        spec: str,
        *,
        environment: Mapping[str, str] | None = None,
        is_plain: bool = False,
        **arguments: Any,
    ) -> None:
        self.spec = spec
        self.facts: dict[str, Any] = {}
        self.start_sec = 0.0
        self._started = time.perf_counter()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the child
        packages = os.pathsep.join(
            [str(Path(videotag.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        )
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "bench_child.py"), spec, json.dumps(arguments), str(is_plain)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "PYTHONPATH": packages, **(environment or {})},
        )
        self.pid = self._process.pid

    def __enter__(self) -> Child:
        self.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait(self) -> None:
        """Waits until the contestant is ready; entering the context does the same."""
        try:
            self.facts = self._answer()
        except BaseException:
            self.close()
            raise
        self.start_sec = time.perf_counter() - self._started

    def measure(self, **arguments: Any) -> dict[str, Any]:
        """Measures once and returns the contestant's result."""
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # reported below, with the child's output
            self._process.stdin.write(json.dumps(arguments).encode() + b"\n")
            self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """Ends the child, which frees its memory."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            words = self._errors.read().decode(errors="replace").strip().splitlines()
            said = words[-1] if words else f"exit code {self._process.returncode}"
            raise BenchError(f"{self.spec}: its process ended: {said}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise BenchError(f"{self.spec}: {answer['error']}")
        return answer


def serve() -> None:
    """The child's side: creates the contestant and measures on request."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # so that output of libraries is not taken for an answer
    if sys.argv[3] == "True":  # before Paddle's first product
        os.environ.pop(MKL_VARIABLE, None)  # set when videotag was imported
    module, _, name = sys.argv[1].partition(":")
    try:
        contestant = getattr(importlib.import_module(module), name)(**json.loads(sys.argv[2]))
        for answer in _answers(contestant):
            print(json.dumps(answer), file=replies, flush=True)
    except VideotagError as error:
        print(json.dumps({"error": str(error)}), file=replies, flush=True)


def _answers(contestant: Any) -> Iterator[dict[str, Any]]:
    yield getattr(contestant, "facts", {})
    for line in sys.stdin:
        yield contestant.measure(**json.loads(line))


if __name__ == "__main__":
    serve()
