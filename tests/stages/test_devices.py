"""At run time no tensor is made without a device: what would be wrong only on a GPU fails here."""

import sys
from pathlib import Path

import pytest
import torch
from tiny_runs import TINY_EHR, tiny
from torch.overrides import TorchFunctionMode

import medmcl

pytestmark = pytest.mark.usefixtures("cache")

PACKAGE = str(Path(medmcl.__file__).parent)
MAKERS = {
    getattr(torch, name): name
    for name in (
        "arange", "as_tensor", "bartlett_window", "blackman_window", "complex", "empty",
        "empty_strided", "eye", "fft.fftfreq", "full", "hamming_window", "hann_window",
        "kaiser_window", "linspace", "logspace", "normal", "ones", "rand", "randint", "randn",
        "randperm", "range", "scalar_tensor", "tensor", "tril_indices", "triu_indices", "zeros",
    )
    if hasattr(torch, name)
}  # fmt: skip


class Makers(TorchFunctionMode):
    """Notes where a function that makes a tensor of nothing is called without a device.

    A module that is being built makes its weights on the default device and is moved as a whole,
    so libraries may do that while they build; in a forward or backward pass nobody may.
    """

    def __init__(self):
        super().__init__()
        self.seen, self.bad = 0, set()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function in MAKERS:
            self.seen += 1
            copies = any(isinstance(arg, torch.Tensor) for arg in args)
            if kwargs.get("device") is None and not copies:
                self._note(MAKERS[function])
        return function(*args, **kwargs)

    def _note(self, name):
        frame, direct, building = sys._getframe(2), None, False
        ours = None
        while frame is not None:
            file = frame.f_code.co_filename
            if direct is None and not file.endswith("overrides.py"):
                direct = file.startswith(PACKAGE)
            building |= frame.f_code.co_name in ("__init__", "reset_parameters")
            if file.startswith(PACKAGE):
                ours = f"{file.removeprefix(PACKAGE)}:{frame.f_lineno} torch.{name}"
                break
            frame = frame.f_back
        if ours is not None and (direct or not building):
            self.bad.add(ours)


def test_a_tensor_made_without_a_device_is_noticed():
    code = compile("make()", f"{PACKAGE}/made_up.py", "exec")
    for make, noticed in (
        (lambda: torch.zeros(2), True),
        (lambda: torch.zeros(2, device="cpu"), False),
        (lambda: torch.tensor([1.0]), True),
        (lambda: torch.as_tensor([1.0], device=torch.device("cpu")), False),
        (lambda: torch.nn.Linear(2, 2), False),
        (lambda: torch.nn.functional.one_hot(torch.zeros(2).long()), True),
    ):
        with Makers() as makers:
            exec(code, {"make": make})
        assert bool(makers.bad) == noticed


@pytest.mark.parametrize("recipe", ["ecg_cmr_toy", "ecg_simclr_toy", "ecg_text_toy", *TINY_EHR])
def test_no_step_of_a_toy_recipe_makes_a_tensor_without_a_device(recipe, request, tmp_path):
    torch.set_num_threads(1)
    cohort = request.getfixturevalue("hospital" if recipe in TINY_EHR else "hearts")
    if recipe in TINY_EHR:
        few = dict(TINY_EHR[recipe])
    else:
        few = {**tiny(recipe), "stages.results.tasks": ["lvef"]}
    few |= {key: 1 for key in few if key.endswith((".steps", ".epochs")) and few[key]}
    for key in (key for key in few if key.endswith(".for_each")):
        few[key] = {"task": ["lvef"], "label_fraction": [1.0]}
    with Makers() as makers:
        medmcl.pretrain(cohort, recipe=recipe, out=tmp_path / "run", overrides=few, device="cpu")
    assert makers.seen > 10
    assert sorted(makers.bad) == []
