"""The suite of chest X-rays, as `medmcl benchmark covid_cxr` scored it, as rows and a page.

    python -m benchmarks.evaluation.covid_cxr_suite BOARD ...

BOARD is a folder that the command wrote.
"""

from __future__ import annotations

from benchmarks import boards

STUDY = boards.study(__file__)

if __name__ == "__main__":
    STUDY.main()
