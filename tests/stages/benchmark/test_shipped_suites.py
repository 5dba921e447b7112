"""Every suite that ships, on a few people in the layout that its data are delivered in."""

import nibabel
import numpy as np
import pandas as pd
import pytest
import yaml

from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.stages.benchmark.benchmark import Benchmark
from medmcl.stages.benchmark.suite import list_suites, read_suite
from tests.data.cohort.test_ehr_cohorts import story, write_mimic_iv
from tests.data.cohort.test_image_text_cohorts import collection
from tests.support.cinc2021 import SOURCES, write_challenge

ATRIAL_FIBRILLATION = "164889003"


@pytest.fixture(autouse=True)
def prepared_once(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("MEDMCL_CACHE", str(tmp_path_factory.getbasetemp() / "prepared"))


def run(suite, data, out, **more):
    given = {"label_fractions": [1.0], "protocols": ["linear_probe"], "device": "cpu", **more}
    rows = Benchmark(suite=suite, out=out, overrides={"data_root": str(data)}, **given).run()
    return [row for row in rows if row.metric == "auroc" and row.target != "" and not row.versus]


@pytest.fixture(scope="module")
def challenge(tmp_path_factory):
    root = tmp_path_factory.mktemp("challenge")
    write_challenge(root, people=16, only_there=ATRIAL_FIBRILLATION)
    return root


def test_every_suite_is_tried_here_or_by_its_authors_numbers():
    assert set(list_suites()) == {"ptbxl", "cinc2021", "acdc", "covid_cxr", "ehr_landmarks"}


def test_each_source_is_scored_by_what_is_learned_of_the_others(challenge, tmp_path):
    out = tmp_path / "out"
    rows = run("cinc2021", challenge, out, random=["turgut_ecg"])
    macro = [row for row in rows if row.target == "macro"]
    assert {(row.scored_on, row.name) for row in macro} == {
        (site, name) for site in SOURCES for name in ("random turgut_ecg", "simple features (ecg)")
    }
    for row in macro:
        assert row.people == 16
        assert row.trained_on == ", ".join(one for one in sorted(SOURCES) if one != row.scored_on)
        assert row.train_people <= 32
    # LBBB has one code in one source and another in the others; of AF only one source knows
    assert {row.target for row in rows} == {"macro", "LBBB", "NSR", "SB", "STach"}
    assert all(row.value > 0.8 for row in rows if row.target == "LBBB")
    assert len(list((out / "vectors").glob("*.parquet"))) == 1  # embedded once, whoever is scored
    page = (out / "leaderboard.md").read_text()
    assert "diagnoses: from site to site" in page
    assert page.count("## diagnoses, scored on ") == 3


def test_a_suite_says_which_sources_are_scored_and_learned_from(challenge, tmp_path):
    own = {
        "schema": "medmcl/suite@1",
        "about": "From Georgia to China",
        "cohort": "cinc2021",
        "modality": "ecg",
        "transport": {"column": "source", "scored": ["cpsc_2018"], "trained": ["georgia"]},
        "bootstrap_draws": 100,
    }
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(own))
    rows = run(str(file), challenge, tmp_path / "out")
    assert {(row.scored_on, row.trained_on) for row in rows} == {("cpsc_2018", "georgia")}
    assert max(row.train_people for row in rows) <= 16


def test_the_ledger_judges_each_source_before_anything_is_embedded(challenge, tmp_path):
    with pytest.raises(ConfigError, match="no evidence of transfer") as refused:
        run("cinc2021", challenge, tmp_path / "out", models=["ecg_fm:none.pt"])
    assert "cpsc2018" in str(refused.value)
    with pytest.raises(ArtefactError, match=r"none\.pt"):  # not seen: only the file is missing
        run("cinc2021", challenge, tmp_path / "out", models=["st_mem:none.pt"], sites=["georgia"])


@pytest.mark.parametrize(
    ("suite", "sites", "said"),
    [("cinc2021", ["georgi"], "georgia"), ("ptbxl", ["georgia"], "holds no site out")],
)
def test_sites_that_are_none_are_refused(suite, sites, said, challenge, tmp_path):
    if suite == "ptbxl":
        suite = str(tmp_path / "plain.yaml")
        tree = {"schema": "medmcl/suite@1", "about": "x", "cohort": "cinc2021", "modality": "ecg"}
        (tmp_path / "plain.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(ConfigError, match=said):
        run(suite, challenge, tmp_path / "out", sites=sites)


def test_one_source_alone_cannot_be_carried_over(tmp_path):
    write_challenge(tmp_path / "data", people=2, sources={"georgia": ("E", 100)})
    with pytest.raises(ConfigError, match="no other site"):
        run("cinc2021", tmp_path / "data", tmp_path / "out")


def write_acdc(root, patients):
    """As the challenge delivers it: two frames a patient, Info.cfg, no table of parameters."""
    rng = np.random.default_rng(0)
    for number in range(1, patients + 1):
        group = ("NOR", "DCM", "HCM", "MINF", "RV")[number % 5]
        folder = root / f"patient{number:03d}"
        folder.mkdir(parents=True)
        (folder / "Info.cfg").write_text(f"ED: 1\nES: 09\nGroup: {group}\nHeight: 170\n")
        for frame in (1, 9):
            voxels = rng.integers(0, 60, (32, 32, 6)).astype(np.int16)
            half = 4 + 2 * (number % 5)
            voxels[16 - half : 16 + half, 16 - half : 16 + half] += 150
            image = nibabel.Nifti1Image(voxels, np.diag([1.5, 1.5, 10.0, 1.0]))
            nibabel.save(image, folder / f"{folder.name}_frame{frame:02d}.nii.gz")


@pytest.mark.parametrize("below", ["", "training", "database/training"])
def test_acdc_may_lie_as_it_unpacks(below, tmp_path):
    write_acdc(tmp_path / below, 5)
    cohort = read_suite("acdc")[1].open(overrides={"data_root": str(tmp_path)})
    assert len(cohort.samples) == 5
    assert all(
        path.is_file() for place in cohort.records["cmr"]["place"] for path in place.paths.values()
    )


def test_the_groups_of_acdc_are_five_classes_and_need_no_table_of_parameters(tmp_path):
    write_acdc(tmp_path / "data", 40)
    rows = run("acdc", tmp_path / "data", tmp_path / "out")
    assert {row.target for row in rows} == {"macro", "NOR", "DCM", "HCM", "MINF", "RV"}
    assert {(row.name, row.classes) for row in rows} == {("simple features (cmr)", 5)}
    lines = (tmp_path / "out" / "leaderboard.md").read_text().splitlines()
    assert len([line for line in lines if line.startswith("| simple features")]) == 1


def test_chest_x_rays_are_scored_for_finding_and_outcomes(tmp_path):
    collection(tmp_path / "data", images=60)
    rows = run("covid_cxr", tmp_path / "data", tmp_path / "out")
    assert {row.task for row in rows} == {"covid", "intensive_care", "death"}
    assert all(row.people < row.records for row in rows)  # two images a patient


def test_landmarks_of_health_records_are_scored_beside_their_codes(tmp_path):
    write_mimic_iv(tmp_path / "data", story())
    vectors = pd.DataFrame({"subject": [one["id"] for one in story()]})
    vectors["e0"] = [float(sum(one["codes"])) for one in story()]
    vectors.to_csv(tmp_path / "theirs.csv", index=False)
    rows = run(
        "ehr_landmarks", tmp_path / "data", tmp_path / "out",
        embeddings=[f"theirs={tmp_path / 'theirs.csv'}"],
    )  # fmt: skip
    names = {"theirs", "simple features (codes)"}
    assert {(row.task, row.name) for row in rows} == {
        (task, name)
        for task in ("death_1y", "readmission_30d", "heart_failure_1y")
        for name in names
    }
    assert len({row.people for row in rows if row.task == "death_1y"}) == 1
