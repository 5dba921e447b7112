""""""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from small_tables import write_cohort

from medmcl.core.errors import CohortError
from medmcl.data.check.check import check_cohort
from medmcl.data.cohort.cohort import open_cohort


def write(folder, ids, files, path):
    (folder / "img").mkdir(parents=True)
    for number, name in enumerate(files):
        pixels = np.random.default_rng(number).integers(0, 255, (24, 24), dtype="uint8")
        Image.fromarray(pixels).save(folder / "img" / f"{name}.png")
    return write_cohort(
        folder,
        pd.DataFrame({"id": ids}),
        subjects={"table": "table.csv", "id": "id"},
        modalities={"img": {"reader": "image", "path": path}},
    )


def errors_of(folder):
    return [one for one in check_cohort(folder) if one.level == "error"]


NUMBERS = range(8, 14)


@pytest.mark.parametrize(
    ("ids", "files", "path", "better"),
    [
        ("{}", "{:05d}", "img/{id}.png", "img/{id:05d}.png"),
        ("{:05d}", "{}", "img/{id}.png", "img/{id:d}.png"),
        ("{:05d}", "{:03d}", "img/{id}.png", "img/{id:03d}.png"),
        ("{}", "p{0:04d}_{0:04d}", "img/p{id}_{id}.png", "img/p{id:04d}_{id:04d}.png"),
    ],
)
def test_the_form_that_finds_the_files_is_told_and_works(tmp_path, ids, files, path, better):
    told = [ids.format(number) for number in NUMBERS]
    there = [files.format(number) for number in NUMBERS]
    (hit,) = errors_of(write(tmp_path / "wrong", told, there, path))
    assert hit.code == "cohort.no_files"
    assert hit.fix == f'modalities.img.path: "{better}"'
    assert there[0] in hit.what
    assert errors_of(write(tmp_path / "right", told, there, better)) == []


def test_nothing_is_told_where_no_zeros_help(tmp_path):
    (hit,) = errors_of(write(tmp_path, ["a7", "a8"], ["00007", "00008"], "img/{id}.png"))
    assert "leading zeros" not in hit.what
    assert "correct path:" in hit.fix


def test_what_is_no_number_cannot_be_written_as_one_and_says_what_can(tmp_path):
    folder = write(tmp_path, ["a7", "a8"], ["a7", "a8"], "img/{id:03d}.png")
    with pytest.raises(CohortError, match="cannot write 'a7' of column 'id' as '03d'") as caught:
        open_cohort(folder)
    assert "{id} as it stands" in str(caught.value)
