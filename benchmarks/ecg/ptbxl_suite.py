"""The suite of PTB-XL, as `medmcl benchmark ptbxl` scored it, as rows and a page.

    python -m benchmarks.ecg.ptbxl_suite BOARD ...

BOARD is a folder that the command wrote.
"""

from __future__ import annotations

from benchmarks import boards

STUDY = boards.study(
    __file__, lambda found: {"own held out": boards.held_out(found, "superdiagnostic")}
)

if __name__ == "__main__":
    STUDY.main()
