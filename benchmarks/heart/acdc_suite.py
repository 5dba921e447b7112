"""The suite of ACDC, as `medmcl benchmark acdc` scored it, as rows and a page.

    python -m benchmarks.heart.acdc_suite BOARD ...

BOARD is a folder that the command wrote.
"""

from __future__ import annotations

import argparse

from benchmarks import boards
from benchmarks.study import Row


def run(given: argparse.Namespace) -> list[Row]:
    return boards.kept(given)


STUDY = boards.study(__file__, run)

if __name__ == "__main__":
    STUDY.main()
