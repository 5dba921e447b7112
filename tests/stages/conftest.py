from pathlib import Path

import pytest

from medmcl.data.simulate import simulate


@pytest.fixture(scope="session")
def hearts(tmp_path_factory) -> Path:
    """A simulated cohort as shards, with a few subjects as WFDB and NIfTI files."""
    folder = tmp_path_factory.mktemp("hearts") / "cohort"
    return simulate("heart", folder, {"subjects": 160, "form": "both", "files_subset": 4})
