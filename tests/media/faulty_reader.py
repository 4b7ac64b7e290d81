"""Replaces FrameReader in a decoding child and misbehaves as the name of the file says."""

from __future__ import annotations

import os
import signal
import threading

from videotag.media import decode_pool
from videotag.media.video import FrameReader


def use_faulty_reader(monkeypatch):
    """Makes decoding children use it. The time limit applies only to files that hang, on any machine."""
    reader = decode_pool.DecodePool.reader

    def limited(pool, path, *, stall_limit_sec=0.0, **options):
        limit_sec = stall_limit_sec if "hangs" in str(path) else 300.0
        return reader(pool, path, stall_limit_sec=limit_sec, **options)

    monkeypatch.setattr(decode_pool.DecodePool, "reader", limited)
    monkeypatch.setattr(decode_pool, "READER", "faulty_reader:FaultyReader")


class FaultyReader(FrameReader):
    """After the first frame, "hangs" hangs, "segfaults" crashes, "killed" is killed ..."""

    def __iter__(self):
        for frame in super().__iter__():
            yield frame
            self._misbehave(str(self._path))

    def _misbehave(self, path):
        if "hangs" in path:
            threading.Event().wait()
        if "segfaults" in path:
            os.kill(os.getpid(), signal.SIGSEGV)
        if "killed" in path:
            os.kill(os.getpid(), signal.SIGKILL)
        if "greedy" in path:
            raise MemoryError
        if "buggy" in path:
            raise ZeroDivisionError("division\nby zero")
        if "chatty" in path:
            os.write(1, b"not a frame")
