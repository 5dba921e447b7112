"""``medmcl`` and ``python -m medmcl``: the command line, and what Ctrl-C does before and after."""

import gc

from medmcl.engine.signals import end, spare_imports, tell_of_ctrl_c


def main() -> None:
    """Run the command line; once it has ended, Ctrl-C changes its exit code no more."""
    spare_imports()
    code = 1  # of an error of ours
    try:
        _run()
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
        raise
    finally:
        gc.freeze()  # or Python walks through all of torch as it ends: for a second
        end(code)


def _run() -> None:
    try:
        from medmcl.cli.main import main as run  # which takes a moment

        run()
    except KeyboardInterrupt:
        raise tell_of_ctrl_c() from None


if __name__ == "__main__":
    main()
