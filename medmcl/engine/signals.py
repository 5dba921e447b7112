"""A polite end: SIGTERM, SIGUSR1 and Ctrl-C ask the loop to save and stop after the current step.

A second Ctrl-C ends at once.
"""

from __future__ import annotations

import atexit
import mmap
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType, TracebackType

from medmcl.core.errors import ENDED, was_ended

EXIT_CODE = 75
"""Exit code of a run that saved on a signal and can be resumed (EX_TEMPFAIL of sysexits.h)."""

CTRL_C = 130
"""Exit code of a process that Ctrl-C ended (128 + SIGINT), as shells expect it."""

ONE_PRESS = 0.5
"""Seconds in which Ctrl-C counts once: launchers send it to a process and to its group."""

_WAIT = 0.05
"""Seconds until a signal that was put off is tried again."""


def spare_imports() -> None:
    """Let Ctrl-C wait where it cannot be raised, in a process that it ends as Python has it.

    An error that a signal raises as importlib has just taken its lock, and has not yet begun the
    ``try`` that gives it back (Python 3.11, ``_get_module_lock``), leaves the lock taken for good.
    Where that is in its callback of a weak reference, Python drops the error, too: the process goes
    on, and waits for ever for the first of its threads that imports, of which that of `Saver` is
    one. Elsewhere in an import the error may become another (exit code 1), or end C++ (SIGABRT).
    What Python drops elsewhere (in a ``__del__``, a callback of a weak reference) comes again.
    """
    begin()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
        sys.unraisablehook = partial(_come_again, sys.unraisablehook)


def begin() -> None:
    """Begin work that no signal has ended yet."""
    ENDED.clear()


def was_ctrl_c(error: BaseException) -> bool:
    """Whether Ctrl-C is why work ends with an error, perhaps one that C made of it."""
    return isinstance(error, KeyboardInterrupt) or (
        was_ended() and not isinstance(error, Interrupted)
    )


def end(code: int) -> None:
    """Let Ctrl-C end this process with its exit code: its work is done.

    It ends the wait for threads; afterwards, as Python tidies up, it changes nothing.
    """
    if signal.getsignal(signal.SIGINT) is _interrupt:
        signal.signal(signal.SIGINT, lambda *_: os._exit(code))
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)


def tell_of_ctrl_c() -> SystemExit:
    """Say that Ctrl-C ended the command; give what ends the process."""
    sys.stderr.write("\nstopped by Ctrl-C\n")
    return SystemExit(CTRL_C)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if may_raise(number, frame):
        raise KeyboardInterrupt(number)


def may_raise(number: int, frame: FrameType | None, outer: int = 0) -> bool:
    """Whether a signal may raise a `KeyboardInterrupt` of its number now: once in `ONE_PRESS`.

    Where a module is being imported it may not, and comes again a moment later.

    Args:
        number: The signal.
        frame: Where it came.
        outer: `imports` in which the work stands that the signal would end.
    """
    now = time.monotonic()
    if ENDED and now - ENDED[0] < ONE_PRESS:
        return False
    if imports(frame) > outer:
        _send_later(number)
        return False
    ENDED[:] = [now]
    return True


def _come_again(
    before: Callable[[sys.UnraisableHookArgs], object], dropped: sys.UnraisableHookArgs
) -> None:
    if not ENDED or not isinstance(dropped.exc_value, KeyboardInterrupt):
        before(dropped)
        return
    ENDED.clear()
    _send_later(*dropped.exc_value.args)


def _send_later(number: int = signal.SIGINT) -> None:
    again = threading.Timer(_WAIT, os.kill, (os.getpid(), number))
    again.daemon = True
    again.start()


def imports(frame: FrameType | None) -> int:
    """Give the frames of importlib in which a frame stands: 0 outside imports."""
    count = 0
    while frame is not None:
        count += frame.f_code.co_filename.startswith("<frozen importlib")
        frame = frame.f_back
    return count


class Interrupted(Exception):  # noqa: N818 - an event, not an error
    """The run was asked to stop; its state is saved and `--resume` continues it."""

    folder: Path | None = None
    """The run folder to go on with."""


_OPEN: list[StopRequest] = []
"""Those that listen in this process."""


def stop_if_asked(where: str) -> None:
    """Stop here if whoever listens was asked to: for long work that nobody handed a `StopRequest`.

    Raises:
        Interrupted: A stop signal came.
    """
    for one in _OPEN:
        one.check_interrupt(where)


class StopRequest:
    """Listens for stop signals while it is open; only the main thread can listen.

    Copies of this process that work beside it (`medmcl.data.loading.worker_pool.beside`) know of
    what it heard, and it of what they did.

    Args:
        speaks: Whether it says that it heard Ctrl-C: of several ranks that all hear it, one does.
    """

    signals = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)

    def __init__(self, *, speaks: bool = True) -> None:
        self._heard = mmap.mmap(-1, 1)  # shared with copies
        self.speaks = speaks
        self._pressed: float | None = None
        self._before: dict[int, object] = {}
        self._outer = 0

    @property
    def asked(self) -> bool:
        """Whether to stop."""
        return bool(self._heard[0])

    @asked.setter
    def asked(self, value: bool) -> None:
        self._heard[0] = value

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        if number == signal.SIGINT:
            self._press(time.monotonic(), frame)

    def _press(self, now: float, frame: FrameType | None) -> None:
        if self._pressed is None:
            self._pressed = now
            self._tell("stopping, after the step is saved; Ctrl-C again ends at once")
        elif now - self._pressed > ONE_PRESS and may_raise(signal.SIGINT, frame, self._outer):
            self._tell("ended at once; --resume goes on from the last checkpoint, if there is one")
            raise KeyboardInterrupt(signal.SIGINT)

    def _tell(self, text: str) -> None:
        """Write a line to stderr from a signal handler, where buffered files must not be used."""
        if self.speaks:
            os.write(2, f"\n{text}\n".encode())

    def check_interrupt(self, where: str) -> None:
        """Stop here if a signal came: for work between steps, which is done again on resume."""
        if self.asked:
            raise Interrupted(f"{where}: stopped; what was finished before it is saved")

    def __enter__(self) -> StopRequest:
        _OPEN.append(self)
        if threading.current_thread() is threading.main_thread():
            self._outer = imports(sys._getframe())
            for number in self.signals:
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _OPEN.remove(self)
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal() gave us
        if self._before.get(signal.SIGINT) is signal.default_int_handler:
            begin()  # in a notebook, say, which goes on with other work
