"""What checks have learned and lists of words are files of the package, and installed with it."""

import tomllib
from importlib.resources import files
from pathlib import Path

import medmcl
from medmcl.modalities.ecg.checks.shapes import learned

PACKAGE = Path(medmcl.__file__).parent


def test_every_file_of_the_package_is_installed():
    told = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = told["tool"]["setuptools"]["package-data"]["medmcl"]
    installed = {path for one in patterns for path in PACKAGE.glob(one)}
    beside = {one for one in PACKAGE.rglob("*") if one.is_file() and "__pycache__" not in one.parts}
    assert {one for one in beside if one.suffix != ".py"} <= installed


def test_learned_numbers_are_found_where_the_package_lies():
    checks = files("medmcl.modalities.ecg.checks")
    for name, sizes in {
        "chest": {"lead": 16 * 6, "pair": 8 * 27},
        "electrodes": {"weights": 100},
        "rate": {"weights": 134 * 4, "biases": 12},
    }.items():
        assert checks.joinpath(f"{name}.yaml").is_file()
        assert {key: one.size for key, one in learned(name).items()} == sizes
    assert files("medmcl.modalities.text").joinpath("clinical_words.yaml").is_file()
