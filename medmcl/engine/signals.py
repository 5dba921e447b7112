"""A polite end: SIGTERM, SIGUSR1 and Ctrl-C ask the loop to save and stop after the current step.

A second Ctrl-C ends at once.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from types import FrameType, TracebackType

EXIT_CODE = 75
"""Exit code of a run that saved on a signal and can be resumed (EX_TEMPFAIL of sysexits.h)."""

ONE_PRESS = 0.5
"""Seconds in which Ctrl-C counts once: launchers send it to a process and to its group."""

_WAIT = 0.05
"""Seconds until Ctrl-C during an import is tried again."""


def spare_imports() -> None:
    """Let Ctrl-C wait while a module is imported, where it ends a process as Python has it.

    A precaution: a run that hung after an early Ctrl-C had a thread waiting for the lock of
    imports. Whether Ctrl-C had left it taken is not known, and could not be made to happen.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    within = frame
    while within is not None:
        if within.f_code.co_filename.startswith("<frozen importlib"):
            again = threading.Timer(_WAIT, os.kill, (os.getpid(), number))
            again.daemon = True
            again.start()
            return
        within = within.f_back
    signal.default_int_handler(number, frame)


class Interrupted(Exception):  # noqa: N818 - an event, not an error
    """The run was asked to stop; its state is saved and `--resume` continues it."""

    folder: Path | None = None
    """The run folder to go on with."""


class StopRequest:
    """Listens for stop signals while it is open; only the main thread can listen.

    Args:
        speaks: Whether it says that it heard Ctrl-C: of several ranks that all hear it, one does.
    """

    signals = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)

    def __init__(self, *, speaks: bool = True) -> None:
        self.asked, self.speaks = False, speaks
        self._pressed: float | None = None
        self._before: dict[int, object] = {}

    def _ask(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - signal API
        self.asked = True
        if number == signal.SIGINT:
            self._press(time.monotonic())

    def _press(self, now: float) -> None:
        if self._pressed is None:
            self._pressed = now
            self._tell("stopping, after the step is saved; Ctrl-C again ends at once")
        elif now - self._pressed > ONE_PRESS:
            self._tell("ended at once; --resume goes on from the last checkpoint, if there is one")
            raise KeyboardInterrupt

    def _tell(self, text: str) -> None:
        """Write a line to stderr from a signal handler, where buffered files must not be used."""
        if self.speaks:
            os.write(2, f"\n{text}\n".encode())

    def check_interrupt(self, where: str) -> None:
        """Stop here if a signal came: for work between steps, which is done again on resume."""
        if self.asked:
            raise Interrupted(f"{where}: stopped; what was finished before it is saved")

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in self.signals:
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal() gave us
