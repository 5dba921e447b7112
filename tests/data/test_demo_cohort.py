from pathlib import Path

import yaml

from medmcl.data.heart_cohort import cohort_trees
from medmcl.data.heart_settings import HeartSettings

ROOT = Path(__file__).resolve().parents[2]


def test_the_shipped_demo_cohort_is_what_the_simulator_writes():
    shipped = yaml.safe_load((ROOT / "cohorts" / "demo" / "cohort.yaml").read_text())
    assert shipped.pop("data_root") == "data"
    settings = HeartSettings(subjects=7000, form="both", files_subset=24)
    assert shipped == cohort_trees(settings)["cohort.yaml"]


def test_the_makefile_asks_for_that_cohort():
    text = (ROOT / "Makefile").read_text()
    assert "--subjects 7000 --set form=both --set files_subset=24" in text
