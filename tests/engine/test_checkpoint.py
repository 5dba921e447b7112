import pytest
import torch
from damaged import DAMAGE, damage

from medmcl.core.errors import ArtefactError
from medmcl.engine.checkpoint import Checkpoints, load_weights_file


def save(checkpoints, step, *, best):
    checkpoints.save(step, {"w": torch.full((2,), float(step))}, {"step": step}, best=best)


def test_the_last_two_and_best_are_kept_and_in_the_end_last_and_best(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step, best in ((1, True), (2, True), (3, False), (4, False)):
        save(checkpoints, step, best=best)
    assert checkpoints.weights("last")["w"].tolist() == [4.0, 4.0]
    assert checkpoints.weights("best")["w"].tolist() == [2.0, 2.0]
    assert checkpoints.resume(point=False)[1] == {"step": 4}
    folders = sorted(path.name for path in tmp_path.iterdir() if path.is_dir())
    assert folders == ["step-00000002", "step-00000003", "step-00000004"]
    checkpoints.settle()
    assert not (tmp_path / "step-00000003").exists()


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
    assert checkpoints.resume(point=False)[1] == {"step": 1}
    save(checkpoints, 2, best=False)
    assert checkpoints.resume(point=False)[1] == {"step": 2}


@pytest.mark.parametrize("name", ["weights.safetensors", "training.pt", "whole.json"])
@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_step_gives_way_to_the_one_before(tmp_path, name, how):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2, 3):
        save(checkpoints, step, best=step != 2)
    damage(tmp_path / "step-00000003" / name, how)
    weights, training = checkpoints.resume(point=True)
    is_whole = (name, how) == ("whole.json", "missing")  # as steps once were
    assert training == {"step": 3 if is_whole else 2}
    assert weights["w"].tolist() == [float(training["step"])] * 2
    assert checkpoints.weights("best")["w"].tolist() == [3.0 if is_whole else 1.0] * 2
    save(checkpoints, 3, best=True)
    assert checkpoints.weights("best")["w"].tolist() == [3.0, 3.0]
    checkpoints.settle()
    assert [one.name for one in tmp_path.glob("step-*")] == ["step-00000003"]


@pytest.mark.parametrize("pointer", ["last", "best"])
@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_pointer_is_told_by_the_folders(tmp_path, pointer, how):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        save(checkpoints, step, best=step == 1)
    damage(tmp_path / f"{pointer}.json", how)
    assert checkpoints.find(pointer).name == f"step-0000000{2 if pointer == 'last' else 1}"
    assert checkpoints.resume(point=True)[1] == {"step": 2}


def test_what_is_damaged_and_nothing_stands_for_says_which_and_what_to_do(tmp_path):
    checkpoints = Checkpoints(tmp_path / "b")
    save(checkpoints, 1, best=True)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "done.json").touch()
    damage(tmp_path / "b" / "step-00000001" / "weights.safetensors", "flipped")
    wanted = (
        r"step-00000001/weights.safetensors: is damaged(.|\n)*finished and kept: a(.|\n)*"
        rf"delete {tmp_path / 'b'} and .* --resume"
    )
    for ask in (lambda: checkpoints.weights("last"), lambda: checkpoints.resume(point=False)):
        with pytest.raises(ArtefactError, match=wanted):
            ask()
    with pytest.raises(ArtefactError, match="damaged"):
        checkpoints.refuse_damaged("best")
    with pytest.raises(ArtefactError, match="no such file"):
        load_weights_file(tmp_path / "nothing")


def test_weights_may_be_read_by_whom_the_umask_lets(tmp_path):
    save(Checkpoints(tmp_path), 1, best=True)
    plain = tmp_path / "plain"
    plain.touch()
    files = [one for one in tmp_path.rglob("*") if one.is_file()]
    assert {one.stat().st_mode for one in files} == {plain.stat().st_mode}


def test_digests_come_in_the_order_of_steps_whatever_the_hashes_of_paths_are(tmp_path):
    for number in range(20):  # a set has them in this order half of the time
        checkpoints = Checkpoints(tmp_path / str(number))
        save(checkpoints, 1, best=True)
        save(checkpoints, 2, best=False)
        assert [*checkpoints.digests()] == ["step-00000001", "step-00000002"]
