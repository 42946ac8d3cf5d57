"""Processes of the service as users start them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import IO, Protocol

_LISTENING = re.compile(r"listening on (http://[^\s\"]+)")
_KEPT_VARIABLES = ("PATH", "HOME", "TMPDIR", "LANG", "SYSTEMROOT")


class Started(Protocol):
    """A process of the service, as far as it is made use of here; :class:`subprocess.Popen` is one."""

    @property
    def pid(self) -> int: ...
    @property
    def stderr(self) -> IO[str] | None: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def kill(self) -> None: ...
    def terminate(self) -> None: ...


Start = Callable[[Sequence[str], Mapping[str, str]], Started]


def _start(arguments: Sequence[str], environment: Mapping[str, str]) -> Started:
    return subprocess.Popen(
        [sys.executable, "-m", "service", *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=dict(environment),
    )


class ServiceProcess:
    """``python -m service ARGUMENTS``, ready when entered, gone when left; the log is kept."""

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str] | None = None,
        *,
        start: Start = _start,
    ) -> None:
        kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        self._process = start(arguments, {**kept, **(environment or {})})
        self.log: list[str] = []
        self.url = ""
        self._ready = threading.Event()
        self._follower = threading.Thread(target=self._follow, daemon=True)
        self._follower.start()

    @property
    def pid(self) -> int:
        """The operating system's number of the process."""
        return self._process.pid

    def wait_ready(self, seconds: float = 60.0) -> ServiceProcess:
        """Wait for the address; fails with the log when the process ends or is silent instead."""
        assert self._ready.wait(seconds), "".join(self.log)
        assert self.url, "the service ended before it listened:\n" + "".join(self.log)
        return self

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()
        self._finish()

    def stop(self, seconds: float = 60.0) -> int:
        """Ask it to end (SIGTERM) and wait; returns the exit status."""
        if self._process.poll() is None:
            self._process.terminate()
        status = self._process.wait(seconds)
        self._finish()
        return status

    def __enter__(self) -> ServiceProcess:
        return self.wait_ready()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _follow(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.log.append(line)
            if not self.url and (found := _LISTENING.search(line)):
                self.url = found[1]
                self._ready.set()
        self._ready.set()

    def _finish(self) -> None:
        self._process.wait()
        self._follower.join()
        assert self._process.stderr is not None
        self._process.stderr.close()
