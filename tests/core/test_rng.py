import numpy as np
import torch
from row_draws import row_generator

from medmcl.core.rng import derive_seed, numpy_generator, seed_torch, torch_generator


def test_a_seed_depends_on_every_part_of_its_key_and_on_their_borders():
    keys = [(0,), (1,), (0, "a"), (0, "b"), (0, "a", 1), (0, "a1"), (0, "a", "1", "")]
    assert len({derive_seed(*key) for key in keys}) == len(keys)
    assert all(0 <= derive_seed(*key) < 2**63 for key in keys)


def test_the_same_key_draws_the_same_numbers():
    assert (numpy_generator(3, "x").random(4) == numpy_generator(3, "x").random(4)).all()
    a, b = (torch.rand(4, generator=torch_generator(3, "x", device="cpu")) for _ in range(2))
    assert torch.equal(a, b)


def test_seeding_a_cpu_gives_what_torch_gives():
    torch.manual_seed(11)
    asked = torch.rand(5)
    torch.rand(3)
    seed_torch(11, torch.device("cpu"))
    assert torch.equal(torch.rand(5), asked)


def test_rows_are_given_the_same_numbers_on_however_many_ranks():
    def drawn(rows, *place):
        one = row_generator(7, *place)
        return [
            one.uniform(rows, 3),
            one.normal(rows, dtype=torch.float64),
            one.integers(-2, 5, rows, 2),
            one.uniform(2, rows, 4, row_dim=1).transpose(0, 1),
        ]

    whole = drawn(9)
    parts = [drawn(len(part), int(part[0]), 9) for part in np.array_split(np.arange(9), 4)]
    for number, numbers in enumerate(whole):
        assert torch.equal(torch.cat([part[number] for part in parts]), numbers)
    source = torch.Generator(device="cpu").manual_seed(7)
    assert torch.equal(whole[0], torch.rand(9, 3, generator=source, device="cpu"))
