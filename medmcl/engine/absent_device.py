"""A device that is not there: what a GPU would refuse or wait for is seen on a CPU, in seconds.

Tensors on it have shapes and types, and no values (`FakeTensorMode`). So a step of any size takes
no memory and little time; a tensor that was left on another device is an error, and so is every
value that is read back, except through `medmcl.core.host`, of which the caller of `absent` decides.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import (
    flop_registry,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)

from medmcl.core import host, rng

NAME = "absent"
Read = Callable[[Tensor, str], np.ndarray]
"""From a tensor on the device and who asks for its values to what it is told."""
_BF16 = "linear matmul mm bmm addmm baddbmm conv1d conv2d conv3d einsum"
_FP32 = "softmax.int log_softmax.int layer_norm group_norm cross_entropy_loss norm.Scalar exp log"
"""What autocast computes in bfloat16 and in float32 on a GPU, as far as networks here need it."""
_FLOPS = {
    **flop_registry,
    torch.ops.aten._scaled_dot_product_fused_attention_overrideable: (
        lambda q, k, v, *_, **__: sdpa_flop_count(q.shape, k.shape, v.shape)
    ),
    torch.ops.aten._scaled_dot_product_fused_attention_overrideable_backward: (
        lambda grad, q, k, v, *_, **__: sdpa_backward_flop_count(
            grad.shape, q.shape, k.shape, v.shape
        )
    ),
    torch.ops.aten._grouped_mm: lambda a, b, *_, **__: 2 * a.numel() * b.shape[-1],
}
"""What torch's counter knows, and the kernels that stand for those of a GPU here."""
_ATTENTION = nn.functional.scaled_dot_product_attention
_AUTOCAST = "AutocastPrivateUse1"
_KEPT: list[torch.library.Library] = []


class HostRead(Exception):  # noqa: N818  (an event: what a GPU would be waited for)
    """Values were read back from the device past `medmcl.core.host`."""


class _Generator(torch.Generator):
    device = torch.device("meta")


class _Module(backend_registration._DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


def device() -> torch.device:
    """Give the device; made known to torch when it is first asked for.

    That must be before the first backward pass of the process: torch's engine counts devices then.
    """
    if not _KEPT:
        backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
        every = torch.library.Library("_", "IMPL")
        every.fallback(torch.library.fallthrough_kernel, _AUTOCAST)
        aten = torch.library.Library("aten", "IMPL")
        for names, kind in ((_BF16, torch.bfloat16), (_FP32, torch.float32)):
            for name in names.split():
                packet, _, overload = name.partition(".")
                op = getattr(getattr(torch.ops.aten, packet), overload or "default")
                aten.impl(name, _cast_first(op, kind), _AUTOCAST)
        _KEPT.extend([every, aten])
        _Generator.device = torch.device(NAME, 0)
    return torch.device(NAME, 0)


def _cast_first(op: Any, kind: torch.dtype) -> Callable[..., Any]:
    key = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, _AUTOCAST))
    floats = (torch.float32, torch.bfloat16)

    def cast(x: Any) -> Any:
        if isinstance(x, list | tuple):
            return type(x)(map(cast, x))
        return x.to(kind) if isinstance(x, Tensor) and x.dtype in floats else x

    def called(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(key):
            return op(*map(cast, args), **{name: cast(x) for name, x in kwargs.items()})

    return called


class Counts:
    """What is computed and held on the device."""

    def __init__(self) -> None:
        self.now = self.peak = self.flops = 0
        self._held: dict[int, Any] = {}

    def begin(self) -> None:
        """Forget operations and the peak so far; what is held stays."""
        self.flops, self.peak = 0, self.now

    def add(self, func: Any, args: Any, kwargs: Any, found: Any) -> None:
        """Count an operation, and the memory of what it made for as long as that lives."""
        formula = _FLOPS.get(func._overloadpacket)
        if formula is not None:
            self.flops += formula(*args, **kwargs, out_val=found)
        for x in tree_leaves(found):
            if isinstance(x, FakeTensor) and x.fake_device.type == NAME:
                self._hold(x.untyped_storage())

    def _hold(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._held:
            self._held[key] = weakref.ref(storage, lambda _: self._release(key, size))
            self.now += size
            self.peak = max(self.peak, self.now)

    def _release(self, key: int, size: int) -> None:
        if self._held.pop(key, None) is not None:
            self.now -= size


class _Computes(TorchDispatchMode):
    """Computes without values what is on the device, and refuses what would take values from it."""

    def __init__(self, counts: Counts | None) -> None:
        super().__init__()
        self.fake, self.counts = FakeTensorMode(allow_non_fake_inputs=True), counts

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.prim.device.default:
            return args[0].fake_device
        kwargs = kwargs or {}
        leaves = tree_leaves((args, kwargs))
        there = any(isinstance(x, FakeTensor) for x in leaves)
        if not there and not any(isinstance(x, torch.device) and x.type == NAME for x in leaves):
            return func(*args, **kwargs)
        if any(type(x) in (Tensor, nn.Parameter) for x in leaves):
            args, kwargs = tree_map(self._without_values, (args, kwargs))
        found = self.fake.dispatch(func, types, args, kwargs)
        made = tree_leaves(found)
        if there and any(isinstance(x, FakeTensor) and x.fake_device.type == "cpu" for x in made):
            raise HostRead(f"{func}: values are copied to the host")
        if self.counts is not None:
            self.counts.add(func, args, kwargs, found)
        return found

    def _without_values(self, x: Any) -> Any:
        """A tensor of the CPU as one without values: it may only be moved, or be one number."""
        return self.fake.from_tensor(x.detach()) if type(x) in (Tensor, nn.Parameter) else x


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **more: Any,
) -> Tensor:
    """Attend by a kernel such as a GPU has, which keeps no matrix of tokens by tokens."""
    if query.device.type != NAME:
        return _ATTENTION(query, key, value, attn_mask, dropout_p, is_causal, **more)
    bias = None if attn_mask is None else attn_mask.to(query.dtype)
    fused = torch.ops.aten._scaled_dot_product_fused_attention_overrideable
    found: Tensor = fused(query, key, value, bias, dropout_p, is_causal, **more)[0]
    return found


class _Undrawn(TorchFunctionMode):
    """Leaves weights as memory has them: nobody looks at their values."""

    filled = frozenset(
        f"{way}{kind}_"
        for way in ("", "xavier_", "kaiming_", "trunc_")
        for kind in ("uniform", "normal")
    ) | {"erfinv_", "orthogonal_"}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.__name__ in self.filled:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


undrawn = _Undrawn
"""Context in which modules are built without drawing their first weights."""


@contextmanager
def absent(reads: Read, counts: Counts | None = None) -> Iterator[torch.device]:
    """Give the device; within, tensors on it have no values.

    Args:
        reads: Asked at each `medmcl.core.host.read` of a tensor on the device.
        counts: Counts what is done within, if given.

    Raises:
        HostRead: Values are copied to the host in another way; what computes with them raises
            torch's own errors (`DataDependentOutputException`, `DynamicOutputShapeException`,
            `FakeTensorDeviceMismatchError`).
    """
    place = device()

    def read(x: Tensor | np.ndarray) -> np.ndarray:
        if isinstance(x, np.ndarray):
            return x
        if x.device.type != NAME:
            return x.detach().numpy()
        return reads(x, _asked_by())

    with ExitStack() as stack:
        stack.enter_context(patch.object(host, "read", read))
        stack.enter_context(patch.dict(rng.GENERATORS, {NAME: _Generator}))
        lifted = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=) copies as `to` does
        stack.callback(torch._C._set_only_lift_cpu_tensors, lifted)
        kernel = "scaled_dot_product_attention"
        stack.enter_context(patch.object(nn.functional, kernel, _attend))
        stack.enter_context(_Computes(counts))
        yield place


def _asked_by() -> str:
    """Name the function that asks for values, past this module and `medmcl.core.host`."""
    frame = sys._getframe(1)
    passed = (__name__, host.__name__, "medmcl.core.batch")
    while frame.f_globals.get("__name__") in passed and frame.f_back is not None:
        frame = frame.f_back
    return f"{frame.f_globals.get('__name__')}.{frame.f_code.co_qualname}"


def move(module: nn.Module, place: torch.device) -> None:
    """Move a module to the device, within `absent`; `nn.Module.to` cannot."""
    moved: dict[int, Tensor] = {}

    def there(x: Tensor) -> Tensor:
        if id(x) not in moved:
            y = x.detach().to(place)
            moved[id(x)] = nn.Parameter(y, x.requires_grad) if isinstance(x, nn.Parameter) else y
        return moved[id(x)]

    for part in module.modules():
        owned: list[dict[str, Any]] = [part._parameters, part._buffers]
        for own in owned:
            own.update({name: there(x) for name, x in own.items() if x is not None})
