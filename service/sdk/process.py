"""What the client library has running in this process: one loop thread, and one engine for each service it asks.

Nothing is started before the first client is used. At the interpreter's exit every engine is closed: open interactions
of an embedded service get its drain time, and what it has queued is committed. A process that is forked off starts
anew: threads, connections and locks do not survive a fork, so what it inherits is never touched, not even to free it.
SQLite goes further. A process that inherits an open file believes that it has its parent's locks, and may damage the
file by what it then does; and where another thread was inside SQLite, its inner locks stay taken. So the embedded
form refuses SQLite in a child of a process that had it open, instead of failing some of the time.
"""

from __future__ import annotations

import atexit
import concurrent.futures.thread
import ctypes
import logging
import os
import threading
from typing import Final

from service.sdk.engine import Engine
from service.sdk.errors import SdkConfigurationError
from service.sdk.loop_thread import LoopThread
from service.sdk.options import Target

logger = logging.getLogger(__name__)

_OPEN_AT_FORK: Final = (
    "This process was forked off while its parent had a SQLite file open, and SQLite cannot be used here then. Start "
    "processes by the method 'spawn' or 'forkserver', or use the SDK first after the fork, or close the parent's "
    "clients before it, or use PostgreSQL (database_url=) or a running service (base_url=)."
)


class Process:
    """The loop thread and the engines of one process; whether it may use SQLite."""

    def __init__(self, *, sqlite: bool = True) -> None:
        self._sqlite = sqlite
        self.lock = threading.RLock()
        self._thread: LoopThread | None = None
        self._engines: dict[Target, tuple[Engine, int]] = {}
        self._registered = False

    def thread(self) -> LoopThread:
        """The loop thread, started if it is not yet."""
        with self.lock:
            if self._thread is None:
                self._close_at_exit()
                self._thread = LoopThread()
            return self._thread

    def acquire(self, target: Target) -> Engine:
        """The engine that asks this target, to be released once; raises :class:`SdkConfigurationError`."""
        with self.lock:
            engine, users = self._engines.get(target) or (Engine(target, self.thread()), 0)
            if engine.uses_sqlite and not self._sqlite:
                raise SdkConfigurationError(_OPEN_AT_FORK)
            self._engines[target] = engine, users + 1
            return engine

    def child(self) -> Process:
        """What a process begins with that is forked off now."""
        return Process(
            sqlite=self._sqlite and not any(engine.uses_sqlite for engine, _ in self._engines.values())
        )

    def release(self, target: Target) -> Engine | None:
        """Give an engine back; the engine, to be closed, when nobody else uses it."""
        with self.lock:
            engine, users = self._engines.pop(target)
            if users > 1:
                self._engines[target] = engine, users - 1
                return None
            return engine

    def close(self) -> None:
        """Close every engine and end the thread."""
        with self.lock:
            thread, self._thread = self._thread, None
            engines = [engine for engine, _ in self._engines.values()]
            self._engines.clear()
        if thread is None:
            return
        for engine in engines:
            try:
                thread.call(engine.close())
            except Exception:
                logger.exception("a client could not be closed properly")
        thread.stop()

    def _close_at_exit(self) -> None:
        if self._registered:
            return
        self._registered = True
        # Before ordinary exit functions run, executors stop taking work, and the interpreter waits for the threads of
        # the databases' drivers; what is registered here, after the executors' own end, is called before both.
        register = getattr(threading, "_register_atexit", atexit.register)
        register(self._close_if_ours, os.getpid())

    def _close_if_ours(self, pid: int) -> None:
        if os.getpid() == pid and self._thread is not None:
            _wait_for(self._thread.callers())
            self.close()


def _wait_for(callers: list[threading.Thread]) -> None:
    """Let threads end that the interpreter would wait for anyway; it ends those of executors itself, and later."""
    of_executors = getattr(concurrent.futures.thread, "_threads_queues", {})
    for thread in callers:
        if not thread.daemon and thread is not threading.current_thread() and thread not in of_executors:
            thread.join()


class _Holder:
    """Which of them is this process's."""

    def __init__(self) -> None:
        self.process = Process()

    def start_anew(self) -> None:
        inherited, self.process = self.process, self.process.child()
        # One reference more than there is: not even the end of the interpreter may close what is open in there.
        if hasattr(ctypes, "pythonapi"):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))


_HOLDER: Final = _Holder()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_HOLDER.start_anew)


def current() -> Process:
    """What runs in this process."""
    return _HOLDER.process
