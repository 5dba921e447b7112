"""Encoders as files for others: the run's own vectors, opened without medmcl, and nothing more."""

import json
import os
import re
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typed import typed

import medmcl
from medmcl.core.batch import InputShape
from medmcl.core.errors import ArtefactError, ConfigError, ExtraNotInstalledError
from medmcl.stages.run.export import _last_names, _nowhere, _told_of_people, _write_torch, export


def bytes_of(folder):
    """Everything that stands in the files of a folder, archives unpacked."""
    for file in sorted(folder.iterdir()):
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as inside:
                yield from map(inside.read, inside.namelist())
        else:
            yield file.read_bytes()


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    return export(trained, tmp_path_factory.mktemp("export") / "hf", format="hf", space="pooled")


def test_a_program_gives_the_vectors_of_the_run_where_medmcl_is_not_imported(
    trained, hearts, exported, tmp_path
):
    cohort = medmcl.open_cohort(hearts)
    again = export(trained, tmp_path / "again", modality="ecg", space="pooled")
    assert (again / "ecg.pt2").read_bytes() == (exported / "ecg.pt2").read_bytes()
    own = trained.embed(cohort, modality="ecg", space="pooled", device="cpu")
    adapter = trained.prepare(cohort, ("ecg",)).adapters["ecg"]
    stored = np.array(trained.prepare(cohort, ("ecg",)).inputs("ecg")[:9])
    np.save(tmp_path / "x.npy", adapter.plain(torch.from_numpy(stored)).numpy())
    code = (
        "import sys, numpy, torch\n"
        "network = torch.export.load(sys.argv[1]).module()\n"
        "found = network(torch.from_numpy(numpy.load(sys.argv[2] + '/x.npy')))\n"
        "numpy.save(sys.argv[2] + '/y.npy', found.detach().numpy())\n"
        "assert not any(name.split('.')[0] == 'medmcl' for name in sys.modules)\n"
    )
    clean = {key: one for key, one in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run(
        [sys.executable, "-c", code, exported / "ecg.pt2", tmp_path],
        check=True, cwd=tmp_path, env=clean, timeout=120,
    )  # fmt: skip
    vectors = own.filter(regex=r"^e\d+$").to_numpy()[:9]
    assert np.load(tmp_path / "y.npy") == pytest.approx(vectors, abs=1e-6)


def test_it_says_how_to_feed_it_and_holds_the_weights(trained, exported):
    about = json.loads((exported / "config.json").read_text())
    ecg = about["parts"]["ecg"]
    assert ecg["input"]["names"][:3] == ["I", "II", "III"]
    assert (
        ecg["preparation"]["settings"]["rate_hz"]
        == trained.preprocessing["ecg"]["settings"]["rate_hz"]
    )
    assert ecg["output"] == {"space": "pooled", "width": ecg["output"]["width"]}
    assert len({one.stat().st_mode for one in exported.iterdir()}) == 1
    weights = load_file(exported / "model.safetensors")
    tower = trained.towers(about["stage"], torch.device("cpu")).tower("ecg").state_dict()
    assert all((weights[f"ecg.{key}"] == one).all() for key, one in tower.items())
    card = (exported / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: medmcl\n")
    assert "`ecg.pt2`: input (B, 12, " in card


def test_it_names_nobody_and_no_folder(trained, hearts, exported):
    whole = b"\n".join(bytes_of(exported))
    for place in (
        str(trained.path),
        str(hearts),
        str(Path(medmcl.__file__).parent),
        "/site-packages",
    ):
        assert place.encode() not in whole
    words = {*re.findall(rb"[\w-]+", whole)}
    ids = {one.encode() for one in medmcl.open_cohort(hearts).subjects.index.astype(str)}
    assert len(ids) == 160
    assert not ids & words


def test_where_a_tokeniser_lay_is_not_told_and_what_tells_counts_is():
    state = {"clip": "/home/jane/project/merges.txt.gz", "merges": ["t h"], "sha256": "0"}
    assert _nowhere(state) == {**state, "clip": "merges.txt.gz"}
    settings = {"encoder": {"path": "/scratch/jane/bert", "layers": [2, "~/a.csv", "gelu"]}}
    assert _last_names(settings) == {
        "encoder": {"path": "…/bert", "layers": [2, "…/a.csv", "gelu"]}
    }
    told = {kind: bool(_told_of_people("x", {"kind": kind, "free_text": kind == "text"}))
            for kind in ("tabular", "genetics", "codes", "ecg", "cmr", "text")}  # fmt: skip
    assert [kind for kind, is_told in told.items() if is_told] == ["tabular", "genetics", "codes"]


@pytest.mark.parametrize(
    "files",
    [{"config.json": "{}", "README.md": ""},  # of a model from the Hub
     {"config.json": '{"medmcl": "0", "parts": {}}', "README.md": "", "notes.txt": "mine"}],
)  # fmt: skip
def test_only_an_earlier_export_is_written_over(trained, exported, files, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    for name, content in files.items():
        (own / name).write_text(content)
    with pytest.raises(ArtefactError, match="is no export"):
        export(trained, own, modality="ecg", overwrite=True)
    assert {one.name: one.read_text() for one in own.iterdir()} == files
    with pytest.raises(ArtefactError, match="an export already"):
        export(trained, exported, modality="ecg")


def test_a_program_of_other_vectors_is_not_written(trained, tmp_path, monkeypatch):
    load = torch.export.load

    class Off:
        def __init__(self, path):
            self.network = load(path).module()

        def module(self):
            return lambda x: self.network(x) * 1.001

    monkeypatch.setattr(torch.export, "load", Off)
    with pytest.raises(ArtefactError, match="other vectors than the run"):
        export(trained, tmp_path / "a", modality="cmr")
    assert not (tmp_path / "a").exists()


class Rooted(torch.nn.Module):
    """Defined for rows from its least on."""

    def __init__(self, least):
        super().__init__()
        self.least = least

    def forward(self, x):
        return (x - self.least).sqrt().flatten(1)


def test_an_encoder_that_noise_is_nothing_to_is_compared_on_zeros_and_ones(tmp_path):
    _write_torch(Rooted(0), InputShape(kind="ecg", shape=(2, 3)), tmp_path / "flags")
    assert (tmp_path / "flags.pt2").exists()
    with pytest.raises(ArtefactError, match="no finite vectors of made-up rows"):
        _write_torch(Rooted(2), InputShape(kind="ecg", shape=(2, 3)), tmp_path / "far")


def test_a_full_disk_ends_in_one_message_not_in_torch_aborting(trained, tmp_path):
    """A file may not grow beyond 50 kB, as on a full disk."""
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "sys.argv[0] = 'medmcl'\n"
        "from medmcl.__main__ import main\n"
        "main()\n"
    )
    words = ["export", trained.path, "--out", tmp_path / "out", "--modality", "ecg"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2, done.stderr
    assert "terminate" not in done.stderr
    assert "Traceback" not in done.stderr
    assert not [*tmp_path.iterdir()]


def test_what_cannot_be_written_is_refused(trained, tmp_path, capsys):
    for wrong in ({"format": "tf"}, {"space": "tokens"}, {"modality": "cmrr"}):
        with pytest.raises(ConfigError):
            export(trained, tmp_path / "a", **wrong)
    if find_spec("onnxruntime") is None:
        with pytest.raises(ExtraNotInstalledError, match="medmcl\\[onnx\\]"):
            export(trained, tmp_path / "a", modality="cmr", format="onnx")
    else:
        folder = export(trained, tmp_path / "a", modality="cmr", format="onnx")
        assert (folder / "cmr.onnx").exists()
    assert typed("export", trained.path, "--out", tmp_path / "a", "--modality", "emg") == 2
    assert "unknown" in capsys.readouterr().err
