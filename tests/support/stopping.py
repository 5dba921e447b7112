"""A stop signal at a line of a run; and what stands for one, and for a view, in a bare loop."""

import logging
import os
from contextlib import contextmanager

import pytest

from medmcl.engine.signals import Interrupted


class _Waiting(logging.Handler):
    def __init__(self, line, how):
        super().__init__(logging.INFO)
        self.line, self.how = line, how

    def emit(self, record):
        if self.line and record.getMessage().startswith(self.line):
            self.line = ""
            os.kill(os.getpid(), self.how)


@contextmanager
def stopped_at(line, how, answer=""):
    """A run of this process gets a signal where a line begins so, and says that it was stopped."""
    logger, waiting = logging.getLogger("medmcl"), _Waiting(line, how)
    level = logger.level
    logger.addHandler(waiting)
    logger.setLevel(logging.INFO)
    try:
        with pytest.raises(Interrupted) as stopped:
            yield
        assert answer in str(stopped.value)
    finally:
        logger.removeHandler(waiting)
        logger.setLevel(level)


class Stop:
    """Asks to stop when it has been looked at so many times."""

    def __init__(self, after):
        self.left = after

    @property
    def asked(self):
        self.left -= 1
        return self.left == 0


def plain(batch, generator, disturb=True):
    """A view that shows a batch as it is."""
    return batch
