"""A polite end: SIGTERM and SIGUSR1 ask the loop to save and stop after the current step."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

EXIT_CODE = 75
"""Exit code of a run that saved on a signal and can be resumed (EX_TEMPFAIL of sysexits.h)."""


class Interrupted(Exception):  # noqa: N818 - an event, not an error
    """The run was asked to stop; its state is saved and `--resume` continues it."""


class StopRequest:
    """Listens for stop signals while it is open; only the main thread can listen."""

    signals = (signal.SIGTERM, signal.SIGUSR1)

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, object] = {}

    def _ask(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - signal API
        self.asked = True

    def heed(self, where: str) -> None:
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
