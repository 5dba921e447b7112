import pytest
import torch
from made_batches import batch_of

from medmcl.core.batch import Batch, Embeddings


def make(rows=3):
    return Batch(
        ids=torch.arange(rows),
        inputs={"ecg": torch.zeros(rows, 2), "cmr": torch.zeros(rows, 4)},
        present={
            "ecg": torch.tensor([True, True, False])[:rows],
            "cmr": torch.tensor([True, False, True])[:rows],
        },
    )


def test_both_gives_the_rows_that_have_both_modalities():
    assert make().both("ecg", "cmr").tolist() == [True, False, False]


def test_taking_rows_takes_them_of_every_part():
    part = make()[torch.tensor([2, 0])]
    assert part.ids.tolist() == [2, 0]
    assert part.present["ecg"].tolist() == [False, True]


@pytest.mark.parametrize(
    "fault",
    [
        {"ids": torch.arange(2)},
        {"ids": torch.zeros(3, 1)},
        {"present": {"ecg": torch.ones(3, dtype=torch.bool)}},
        {"present": {"ecg": torch.ones(3), "cmr": torch.ones(3)}},
        {"targets": {"hf": torch.zeros(3, 1)}},
        {"masks": {"ecg": torch.zeros(2, 5)}},
    ],
)
def test_a_batch_whose_parts_do_not_agree_is_refused_at_birth(fault):
    good = make()
    parts = {"ids": good.ids, "inputs": good.inputs, "present": good.present, **fault}
    with pytest.raises(ValueError):
        Batch(**parts)


def test_embeddings_of_another_number_of_rows_are_refused():
    with pytest.raises(ValueError, match="pooled"):
        Embeddings(batch=make(), pooled={"ecg": torch.zeros(2, 8)})
    with pytest.raises(ValueError, match="tokens"):
        Embeddings(batch=make(), tokens={"ecg": torch.zeros(3, 8)})


def test_bytes_are_those_of_every_tensor():
    flags = torch.ones(2, 1, dtype=torch.bool, device="cpu")
    batch = batch_of(
        {"x": torch.zeros(2, 3, device="cpu")}, targets={"t": flags.float()}, known={"t": flags},
        masks={"x": flags}, leads={"x": flags}, lengths={"x": torch.ones_like(flags[:, 0]).long()},
    )  # fmt: skip
    assert batch.nbytes == 2 * (8 + 12 + 1 + 4 + 1 + 1 + 1 + 8)
