import pytest
import torch

from medmcl.core.errors import ArtefactError
from medmcl.engine.checkpoint import Checkpoints, load_weights_file


def save(checkpoints, step, *, best):
    checkpoints.save(step, {"w": torch.full((2,), float(step))}, {"step": step}, best=best)


def test_last_and_best_are_kept_and_nothing_else(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step, best in ((1, True), (2, True), (3, False), (4, False)):
        save(checkpoints, step, best=best)
    assert checkpoints.weights("last")["w"].tolist() == [4.0, 4.0]
    assert checkpoints.weights("best")["w"].tolist() == [2.0, 2.0]
    assert checkpoints.training() == {"step": 4}
    folders = sorted(path.name for path in tmp_path.iterdir() if path.is_dir())
    assert folders == ["step-00000002", "step-00000004"]


def test_a_half_written_checkpoint_is_never_seen(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1, best=True)
    aside = tmp_path / ".step-00000002.123.part"
    aside.mkdir()
    (aside / "weights.safetensors").write_bytes(b"half")
    assert checkpoints.weights("last")["w"].tolist() == [1.0, 1.0]
    save(checkpoints, 3, best=False)
    assert not aside.exists()


def test_a_folder_that_no_pointer_names_yet_does_not_count(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1, best=True)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "_point", killed)
    with pytest.raises(KeyboardInterrupt):
        save(checkpoints, 2, best=False)
    monkeypatch.undo()
    assert checkpoints.training() == {"step": 1}
    save(checkpoints, 2, best=False)
    assert checkpoints.training() == {"step": 2}


def test_damaged_files_say_which_and_what_to_do(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1, best=True)
    (tmp_path / "step-00000001" / "weights.safetensors").write_bytes(b"\x00" * 7)
    with pytest.raises(ArtefactError, match="safetensors"):
        checkpoints.weights("last")
    (tmp_path / "step-00000001" / "training.pt").write_bytes(b"junk")
    with pytest.raises(ArtefactError, match="cannot be read"):
        checkpoints.training()
    with pytest.raises(ArtefactError, match="no such file"):
        load_weights_file(tmp_path / "nothing")
    (tmp_path / "last.json").write_text("{")
    with pytest.raises(ArtefactError, match="damaged"):
        checkpoints.find("last")


def test_a_stage_is_done_only_when_it_says_so(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.done is None
    save(checkpoints, 1, best=True)
    assert checkpoints.done is None
    checkpoints.finish({"steps": 1})
    assert checkpoints.done == {"steps": 1}
