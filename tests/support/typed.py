"""Commands of the command line, typed within the process of the test."""

import contextlib
import io
import logging
import sys
import warnings
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Answer:
    """What a command gave back: its exit code, and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


def answer(*words, cwd=None):
    """What ``medmcl`` with these words answers, on a terminal 200 characters wide."""
    out, errors = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(errors),
    ):
        patch.setenv("COLUMNS", "200")
        if cwd is not None:
            patch.chdir(cwd)
        code = typed(*words)
    return Answer(code, out.getvalue(), errors.getvalue())


def typed(*words):
    """Exit code of ``medmcl`` with these words; what it says is for capsys."""
    with warnings.catch_warnings():  # typer imports what click will drop
        warnings.simplefilter("ignore", DeprecationWarning)
        from medmcl.cli.main import main
    with as_it_was(logging.getLogger("medmcl")), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["medmcl", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            main()
    return left.value.code or 0


@contextlib.contextmanager
def as_it_was(logger):
    """A command makes the logger its own; the tests after it listen to it as before."""
    handlers, level, propagate = logger.handlers[:], logger.level, logger.propagate
    try:
        yield
    finally:
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)
