"""The suite of landmarks, as `medmcl benchmark ehr_landmarks` scored it: rows and a page.

    python -m benchmarks.ehr.ehr_landmarks_suite BOARD ...

BOARD is a folder that the command wrote.
"""

from __future__ import annotations

from benchmarks import boards

STUDY = boards.study(__file__)

if __name__ == "__main__":
    STUDY.main()
