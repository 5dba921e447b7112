"""Commands of the command line, typed within the process of the test."""

import sys
import warnings

import pytest


def typed(*words):
    """Exit code of ``medmcl`` with these words; what it says is for capsys."""
    with warnings.catch_warnings():  # typer imports what click will drop
        warnings.simplefilter("ignore", DeprecationWarning)
        from medmcl.cli.main import main
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["medmcl", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            main()
    return left.value.code or 0
