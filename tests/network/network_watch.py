"""Runs programs that can open no socket but local ones, and notes every attempt, of their children too.

By a seccomp filter: Linux stops each of their calls of socket() and connect(), of Python and of C++, and this
process answers. It needs no root, no tool and no network. A name look-up shows as the socket to the name
server. Where the kernel or a container forbids such a filter, the tests fail.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import select
import socket
import struct
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from errno import EAFNOSUPPORT, ECONNREFUSED
from pathlib import Path
from typing import Any

#: Machine -> its number in a filter, and those of its calls.
_MACHINES = {
    "x86_64": {"audit": 0xC000003E, "socket": 41, "connect": 42, "seccomp": 317},
    "aarch64": {"audit": 0xC00000B7, "socket": 198, "connect": 203, "seccomp": 277},
}
#: Services that look names up for the C library by a local socket; refused, it asks the name server itself.
_RESOLVERS = (b"nscd", b"systemd/resolve")
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_SET_MODE_FILTER, _NEW_LISTENER = 1, 8
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_CONTINUE = 1
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000


class NetworkWatch:
    """A context in which `run` and `start` start watched processes.

    Attributes:
        attempts: What was tried, a line each: the socket's family and the command line.
    """

    def __init__(self) -> None:
        self.attempts: list[str] = []
        self._numbers = _MACHINES[platform.machine()]

    def __enter__(self) -> NetworkWatch:
        # A filter holds for its thread and for all processes that this thread starts.
        self._starter = ThreadPoolExecutor(1)
        self._listener = self._starter.submit(_install_filter, self._numbers).result()
        self._reader = threading.Thread(target=self._answer_all, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._starter.shutdown()
        self._reader.join(60)
        assert not self._reader.is_alive(), "a watched process has outlived the program that started it"
        os.close(self._listener)

    def run(self, command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """Runs a program to its end; the options are subprocess.run's."""
        return self._starter.submit(
            lambda: subprocess.run(command, capture_output=True, text=True, **options)
        ).result()

    def start(self, command: list[str], **options: Any) -> subprocess.Popen[str]:
        """Starts a program; the options are subprocess.Popen's."""
        return self._starter.submit(lambda: subprocess.Popen(command, text=True, **options)).result()

    def _answer_all(self) -> None:
        """Answers until the last watched process has ended."""
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        while True:
            ((_, event),) = poll.poll()
            if not event & select.POLLIN:
                return
            notice = bytearray(80)
            try:
                fcntl.ioctl(self._listener, _RECEIVE, notice)
                number, pid, _, call, _, _, *arguments = struct.unpack("=QIIiIQ6Q", notice)
                error = self._error_of(pid, call, arguments)
                reply = struct.pack("=QqiI", number, 0, -error, 0 if error else _CONTINUE)
                fcntl.ioctl(self._listener, _SEND, bytearray(reply))
            except FileNotFoundError:  # killed while it waited for the answer
                continue

    def _error_of(self, pid: int, call: int, arguments: list[int]) -> int:
        """The error that a call gets; 0 if it may go on."""
        try:
            if call == self._numbers["connect"]:
                with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
                    memory.seek(arguments[1])
                    address = memory.read(min(arguments[2], 128))
                return ECONNREFUSED if any(part in address for part in _RESOLVERS) else 0
            family = arguments[0] & 0xFFFFFFFF
            name = socket.AddressFamily(family).name if family in set(socket.AddressFamily) else str(family)
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            self.attempts.append(f"{name} by {command[:300]}")
        except OSError as error:  # the process has ended, or may not be looked into
            self.attempts.append(f"call {call} of process {pid}: {error}")
        return EAFNOSUPPORT


class _Instruction(ctypes.Structure):
    _fields_ = [
        ("code", ctypes.c_ushort),
        ("then", ctypes.c_ubyte),
        ("otherwise", ctypes.c_ubyte),
        ("value", ctypes.c_uint),
    ]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.POINTER(_Instruction))]


def _install_filter(numbers: dict[str, int]) -> int:
    """Puts the calling thread under the filter, and returns the file descriptor that its calls arrive at.

    Raises:
        OSError: Linux does not allow it here.
    """
    lines = [
        (_LOAD, 0, 0, 4),  # the machine
        (_JUMP_IF_EQUAL, 0, 5, numbers["audit"]),
        (_LOAD, 0, 0, 0),  # the call
        (_JUMP_IF_EQUAL, 4, 0, numbers["connect"]),
        (_JUMP_IF_EQUAL, 0, 2, numbers["socket"]),
        (_LOAD, 0, 0, 16),  # its first argument, the family
        (_JUMP_IF_EQUAL, 0, 1, socket.AF_UNIX),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _NOTIFY),
    ]
    program = _Program(len(lines), (_Instruction * len(lines))(*(_Instruction(*line) for line in lines)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_NO_NEW_PRIVS) failed")
    listener: int = libc.syscall(
        numbers["seccomp"], _SECCOMP_SET_MODE_FILTER, _NEW_LISTENER, ctypes.byref(program)
    )
    if listener < 0:
        raise OSError(
            ctypes.get_errno(),
            "no seccomp filter with a listener can be installed here, so nothing tells what is sent; "
            "run the tests on Linux 5.5 or newer, in a container that allows seccomp",
        )
    return listener
