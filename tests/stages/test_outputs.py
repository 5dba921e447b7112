import pytest

from medmcl.core.errors import ArtefactError
from medmcl.stages.outputs import REPORT, claim_file, claim_report_folder


@pytest.mark.parametrize("name", REPORT)
def test_a_report_is_only_written_over_when_asked(name, tmp_path):
    claim_report_folder(tmp_path / "new", overwrite=False)
    (tmp_path / "metrics.jsonl").touch()
    claim_report_folder(tmp_path, overwrite=False)
    (tmp_path / name).touch()
    with pytest.raises(ArtefactError, match=rf"{name}[\s\S]*--overwrite"):
        claim_report_folder(tmp_path, overwrite=False)
    claim_report_folder(tmp_path, overwrite=True)


def test_the_report_of_a_run_stays(tmp_path):
    (tmp_path / "config.yaml").touch()
    with pytest.raises(ArtefactError, match="another --out"):
        claim_report_folder(tmp_path, overwrite=True)


def test_a_file_is_only_written_over_when_asked(tmp_path):
    path = tmp_path / "e.parquet"
    claim_file(path, overwrite=False)
    path.touch()
    with pytest.raises(ArtefactError, match="--overwrite"):
        claim_file(path, overwrite=False)
    claim_file(path, overwrite=True)
    with pytest.raises(ArtefactError, match="is a folder"):
        claim_file(tmp_path, overwrite=True)
