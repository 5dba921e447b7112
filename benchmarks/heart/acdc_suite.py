"""The suite of ACDC, as `medmcl benchmark acdc` scored it, as rows and a page.

    python -m benchmarks.heart.acdc_suite BOARD ...

BOARD is a folder that the command wrote.
"""

from __future__ import annotations

from benchmarks import boards

STUDY = boards.study(__file__)

if __name__ == "__main__":
    STUDY.main()
