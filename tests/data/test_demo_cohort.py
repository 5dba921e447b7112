import shutil
from pathlib import Path

import pytest
import yaml

from medmcl.core.errors import CohortError
from medmcl.data.cohort.cohort import load_cohort, open_cohort
from medmcl.simulation.folder import cohort_tree
from medmcl.simulation.heart.settings import HeartSettings
from medmcl.simulation.heart.simulate import about

ROOT = Path(__file__).resolve().parents[2]


def test_the_shipped_demo_cohort_is_what_the_simulator_writes():
    shipped = yaml.safe_load((ROOT / "cohorts" / "demo" / "cohort.yaml").read_text())
    assert shipped.pop("data_root") == "data"
    assert "--subjects 6000 --set form=both --set files_subset=24" in shipped.pop("access")
    settings = HeartSettings(subjects=6000, form="both", files_subset=24)
    assert shipped == cohort_tree("heart/", settings, **about(settings))


def test_where_the_data_are_not_made_yet_the_mend_says_how_to_make_them(tmp_path):
    shutil.copytree(ROOT / "cohorts" / "demo", tmp_path / "demo", ignore=lambda *_: ["data"])
    cohort, findings = load_cohort(tmp_path / "demo")
    assert cohort is None
    assert [finding.code for finding in findings] == ["cohort.data_root"]
    for words in ("make demo", "medmcl simulate heart --out cohorts/demo/data", "data_root=FOLDER"):
        assert words in findings[0].fix
    with pytest.raises(CohortError, match=r"the data root is not a folder[\s\S]*make demo"):
        open_cohort(tmp_path / "demo")


def test_the_makefile_asks_for_that_cohort():
    text = (ROOT / "Makefile").read_text()
    assert "--subjects 6000 --set form=both --set files_subset=24" in text
