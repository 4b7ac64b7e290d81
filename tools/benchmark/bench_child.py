"""A contestant of the benchmark in a process of its own, which stays alive from round to round.

The number of threads is settled by an environment variable before Paddle is imported, and memory can be
measured for one contestant alone. Parent and child speak JSON, a line each way: the child answers once when
it is ready, then once for every measurement. What libraries print goes to stderr.
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
    """A contestant in a process of its own; a context manager that waits until it is ready, and ends it.

    The process starts when the object is made, so that several make themselves ready side by side.

    Args:
        spec: "module:Class" of a file beside this one. The class is called with `arguments`; its objects have
            measure(**arguments) -> dict, and may have a dict `facts`.
        environment: variables to set, over those of this process.
        is_plain: it leaves MKL as a script that knows nothing of videotag finds it (cores.mkl_cpu_type).
        arguments: of the class, as JSON can hold them.

    Attributes:
        facts: what the contestant said when it was ready.
        start_sec: from the process's start until it was ready, if nothing else was waited for.

    Raises:
        BenchError: on entering or measuring, the child failed; its last words.
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
        """Until it is ready; entering does it too."""
        try:
            self.facts = self._answer()
        except BaseException:
            self.close()
            raise
        self.start_sec = time.perf_counter() - self._started

    def measure(self, **arguments: Any) -> dict[str, Any]:
        """What the contestant measures, once."""
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # said below, with the child's last words
            self._process.stdin.write(json.dumps(arguments).encode() + b"\n")
            self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """Ends the child, which gives its memory back."""
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
    """The child's side: makes the contestant and measures as often as it is asked to."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # so that nothing that a library prints is taken for an answer
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
