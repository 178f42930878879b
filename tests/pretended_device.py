"""A GPU that is not there: tensors that claim to lie on one, and a record of all that would make the host wait.

A `DeviceTensor` says `cuda:0` (or `mps:0`) and holds an ordinary tensor of the processor, on which every operation is
done: so methods train on it with real numbers and can be compared with a run on the processor. What a GPU refuses is
refused: tensors of two devices in one operation, an index on the device into an array of the host, float64 on mps.
What a GPU would do and no number shows is recorded: waits of the host, copies from memory that is not pinned, and how
much memory the tensors take.
"""

from __future__ import annotations

import traceback
import weakref
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

import labelfix

aten = torch.ops.aten
_MEMORY = 16 << 30
_PACKAGE = str(Path(labelfix.__file__).parent)

# Their result has a size, or a value, that only the device knows.
_WAITING = {
    aten._local_scalar_dense, aten.equal, aten.nonzero, aten.masked_select, aten._unique2, aten.unique_dim,
    aten.unique_consecutive, aten.bincount, aten.is_nonzero,
}  # fmt: skip
_INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index}
_COPYING = {aten._to_copy, aten.copy_, aten.copy, aten.set_}


class DeviceTensor(torch.Tensor):
    """A tensor that claims to lie on a device; `inner` has its numbers, or on `meta` its shape alone."""

    inner: torch.Tensor
    claimed: torch.device

    @staticmethod
    def __new__(cls, inner: torch.Tensor, device: torch.device) -> DeviceTensor:
        self = torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device=torch.device("cuda", 0),
        )  # fmt: skip
        self.inner, self.claimed = inner, device
        return self

    @property
    def device(self):
        """What labelfix sees; torch's own code takes it for `cuda:0`, for which alone it needs no driver."""
        return self.claimed

    __torch_function__ = torch._C._disabled_torch_function_impl

    def tolist(self):
        return self.cpu().tolist()

    def __tensor_flatten__(self):
        return ["inner"], self.device

    @staticmethod
    def __tensor_unflatten__(inner_tensors, device, _size, _stride):
        return DeviceTensor(inner_tensors["inner"], device)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise AssertionError(f"{func} on a pretended device, outside of `pretended`")


class Record(TorchDispatchMode):
    """What has happened since `reset`.

    Attributes:
        waits: how often the host would wait for the device, by kind and the line of labelfix that asked.
        pageable: copies to the device from memory that is not pinned, by that line.
        copies: copies to the device, pinned or not.
        kernels: operations on the device that compute something.
        memory: bytes of all tensors on the device now.
        peak: the most of them since `reset`.
    """

    def __init__(self, device: torch.device, *, has_values: bool) -> None:
        super().__init__()
        self.device = device
        self._names = {device.type, "cuda"}
        self._inner = torch.device("cpu" if has_values else "meta")
        self._pinned: set[int] = set()
        self._living: set[int] = set()
        self.memory = 0
        self.reset()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch imports its compiler, which takes seconds

    def reset(self) -> None:
        self.waits: Counter = Counter()
        self.pageable: Counter = Counter()
        self.copies = self.kernels = 0
        self.peak = self.memory

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        packet = func.overloadpacket
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        is_ours = any(isinstance(tensor, DeviceTensor) for tensor in tensors)
        if torch.is_inference_mode_enabled() and func._can_decompose():
            with self:  # which comes here whole in that mode
                return func.decompose(*args, **kwargs)
        to = kwargs.get("device")
        to = None if to is None else torch.device(to)
        if not is_ours and (to is None or to.type not in self._names):
            return func(*args, **kwargs)
        self._check(packet, func, args, tensors)
        lands_here = is_ours if to is None else to.type in self._names
        if packet is aten.copy_:
            lands_here = isinstance(args[0], DeviceTensor)
        self._note(packet, args, kwargs, tensors, lands_here=lands_here)
        out = self._done(func, packet, args, kwargs, tensors, lands_here=lands_here)
        return return_and_correct_aliasing(func, args, kwargs, out) if lands_here and is_ours else out

    def _done(self, func, packet, args, kwargs, tensors, *, lands_here):
        """The operation on what the tensors hold."""
        inner_args, inner_kwargs = tree_map_only(DeviceTensor, lambda tensor: tensor.inner, (args, kwargs))
        if self._inner.type == "meta" and not lands_here:
            return self._of_shapes(packet, args)
        to_ = kwargs.get("device")
        if to_ is not None:
            inner_kwargs["device"] = self._inner if lands_here else to_
        if self._inner.type == "meta" and lands_here:
            inner_kwargs |= {"generator": None} if "generator" in inner_kwargs else {}
            inner_args = tree_map_only(torch.Tensor, self._on_meta, inner_args)
        if "pin_memory" in inner_kwargs:
            inner_kwargs.pop("pin_memory")
        if (
            packet is aten._efficientzerotensor
        ):  # of tangents; it has no memory that an inner operation could read
            func = aten.zeros.default
        out = func(*inner_args, **inner_kwargs)
        if not lands_here:
            return out
        self.kernels += self._is_kernel(func, tensors, out)
        known = {id(tensor.inner): tensor for tensor in tensors if isinstance(tensor, DeviceTensor)}
        return tree_map_only(
            torch.Tensor, lambda found: known[id(found)] if id(found) in known else self.wrapped(found), out
        )

    def _is_kernel(self, func, tensors, out) -> bool:
        """Whether anything is computed: a view is none, nor is memory that waits to be written."""
        if func._schema.is_mutable:
            return True
        known = {_key(tensor.inner) for tensor in tensors if isinstance(tensor, DeviceTensor)}
        made = [
            leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor) and _key(leaf) not in known
        ]
        return bool(made) and "empty" not in str(func)

    def _of_shapes(self, packet, args):
        if packet is aten.copy_:
            return args[0]
        if packet is aten._local_scalar_dense:
            return 1
        return torch.zeros(args[0].shape, dtype=args[0].dtype)

    def _on_meta(self, tensor):
        return tensor if tensor.device.type == "meta" or tensor.dim() == 0 else tensor.to("meta")

    def wrapped(self, inner: torch.Tensor) -> DeviceTensor:
        storage, key = inner.untyped_storage(), _key(inner)
        if key not in self._living:
            self._living.add(key)
            self.memory += storage.nbytes()
            self.peak = max(self.peak, self.memory)
            weakref.finalize(storage, self._freed, key, storage.nbytes())
        if inner.dtype is torch.float64 and inner.dim() and self.device.type == "mps":
            raise RuntimeError(f"mps has no float64: {_line()}")
        return DeviceTensor(inner, self.device)

    def _freed(self, key: int, num_bytes: int) -> None:
        self._living.discard(key)
        self.memory -= num_bytes

    def pin(self, tensor: torch.Tensor) -> torch.Tensor:
        """In place of `pin_memory`, in every thread."""
        if self.device.type == "mps":
            raise RuntimeError(f"mps pins no memory: {_line()}")
        if _key(tensor) in self._pinned:
            return tensor
        pinned = tensor.clone()
        self._pinned.add(_key(pinned))
        weakref.finalize(pinned.untyped_storage(), self._pinned.discard, _key(pinned))
        return pinned

    def _check(self, packet, func, args, tensors) -> None:
        """Refuse what a GPU refuses."""
        if packet in _INDEXING:
            into, places = args[0], [place for place in args[1] if place is not None]
            if not isinstance(into, DeviceTensor):
                raise RuntimeError(f"an index on the device into an array of the host: {_line()}")
            values = [args[2]] if len(args) > 2 and isinstance(args[2], torch.Tensor) else []
            tensors = [into, *values]
            if any(not isinstance(place, DeviceTensor) for place in places):
                self.waits["an index of the host", _line()] += 1
        if packet in _COPYING:
            return
        strangers = [tensor for tensor in tensors if not isinstance(tensor, DeviceTensor) and tensor.dim()]
        if strangers:
            raise RuntimeError(f"{func}: tensors on {self.device} and on the cpu: {_line()}")

    def _note(self, packet, args, kwargs, tensors, *, lands_here: bool) -> None:
        if packet in _WAITING:
            self.waits[str(packet).removeprefix("aten."), _line()] += 1
        if packet in _INDEXING and any(place is not None and place.dtype is torch.bool for place in args[1]):
            self.waits["a mask as an index", _line()] += 1
        if packet not in (aten._to_copy, aten.copy_):
            return
        source = args[1] if packet is aten.copy_ else args[0]
        if (
            isinstance(source, DeviceTensor)
            and not lands_here
            and kwargs.get("device") != torch.device("meta")
        ):
            self.waits["a copy to the host", _line()] += 1
        if not isinstance(source, DeviceTensor) and lands_here:
            self.copies += 1
            if not (args[2] if len(args) > 2 else kwargs.get("non_blocking")):
                self.waits["a copy to the device", _line()] += 1
            elif _key(source) not in self._pinned:
                self.pageable[_line()] += 1


def _key(tensor: torch.Tensor) -> int:
    """Of the memory of a tensor, which its views share."""
    return tensor.untyped_storage()._cdata


def _line() -> str:
    """The innermost line of labelfix on the stack."""
    frames = [frame for frame in traceback.extract_stack() if frame.filename.startswith(_PACKAGE)]
    return f"{frames[-1].filename.removeprefix(_PACKAGE)}:{frames[-1].lineno}" if frames else "a test"


def run_backward(
    outputs, gradients, retain_graph, create_graph, inputs, allow_unreachable=True, accumulate_grad=False
):
    """What torch's engine does, in Python: that one wants a thread for every device, and a driver behind it."""
    wanted = {_edge(tensor): None for tensor in inputs}
    pending: dict = defaultdict(lambda: defaultdict(lambda: None))
    roots = [_edge(output) for output in outputs]
    dependencies = _dependencies([node for node, _ in roots])
    for (node, place), gradient in zip(roots, gradients, strict=True):
        _add(pending[node], place, gradient)
    ready = [node for node in dict(roots) if not dependencies[node]]
    with torch.no_grad():
        while ready:
            node = ready.pop()
            known = pending.pop(node, {})
            for edge in wanted:
                if edge[0] is node:
                    wanted[edge] = known.get(edge[1])
            for (following, place), slope in zip(
                node.next_functions, _slopes(node, known, wanted), strict=True
            ):
                if following is None:
                    continue
                if slope is not None:
                    # What was broadcast or cast on the way.
                    taken = following._input_metadata[place]
                    if slope.shape != taken.shape:
                        slope = slope.sum_to_size(taken.shape)
                    _add(pending[following], place, slope.to(taken.dtype))
                dependencies[following] -= 1
                if not dependencies[following]:
                    ready.append(following)
    return tuple(wanted.values())


def _edge(tensor):
    if tensor.grad_fn is not None:
        return tensor.grad_fn, tensor.output_nr
    return torch.autograd.graph.get_gradient_edge(tensor).node, 0


def _dependencies(roots):
    counts: Counter = Counter()
    stack, seen = list(roots), set(roots)
    while stack:
        for following, _ in stack.pop().next_functions:
            if following is None:
                continue
            counts[following] += 1
            if following not in seen:
                seen.add(following)
                stack.append(following)
    return counts


def _add(gradients, place, gradient) -> None:
    gradients[place] = gradient if gradients[place] is None else gradients[place] + gradient


def _slopes(node, known, wanted):
    """Gradients with respect to what the node was made of; those of a leaf are kept in it."""
    if not any(gradient is not None for gradient in known.values()):
        return [None] * len(node.next_functions)
    leaf = getattr(node, "variable", None)
    if leaf is not None:
        if not wanted:
            leaf.grad = known[0].detach() if leaf.grad is None else leaf.grad + known[0]
        return []
    found = node(*(known.get(place) for place in range(max(known) + 1)))
    return found if isinstance(found, tuple) else (found,)


class _HostGenerator(torch.Generator):
    def __new__(cls, _device="cpu"):
        return super().__new__(cls, "cpu")


@contextmanager
def pretended(kind: str = "cuda", *, has_values: bool = True) -> Iterator[Record]:
    """Inside, torch has a device of this kind."""
    record = Record(torch.device(kind, 0), has_values=has_values)
    lifted = torch._C._only_lift_cpu_tensors()
    patches = [
        patch.object(torch.cuda, "_lazy_init", lambda: None),
        patch.object(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False),
        patch.object(torch.cuda, "is_bf16_supported", lambda *_, **__: True),
        patch.object(torch.autograd, "_engine_run_backward", run_backward),
        # Draws are the processor's: the same as in a run on it.
        patch.object(torch, "Generator", _HostGenerator),
        patch.object(torch.Tensor, "pin_memory", lambda tensor: record.pin(tensor)),
        patch.object(torch.cuda, "default_generators", (_HostGenerator(),)),
        patch.object(torch.cuda, "get_rng_state", lambda _device: torch.zeros(16, dtype=torch.uint8)),
        patch.object(torch.cuda, "set_rng_state", lambda _state, _device: None),
        patch.object(torch.cuda, "mem_get_info", lambda _device: (_MEMORY, _MEMORY)),
        patch.object(torch.cuda, "get_device_name", lambda _device: "pretended"),
        patch.object(torch.mps, "manual_seed", lambda _seed: None),
    ]
    for each in patches:
        each.start()
    torch._C._ensureCUDADeviceGuardSet()  # without a GPU: one that answers for a driver
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        with (
            torch.backends.cudnn.flags(enabled=False),
            record,
        ):  # its kernels have no counterpart on a processor
            yield record
    finally:
        torch._C._set_only_lift_cpu_tensors(lifted)
        for each in patches:
            each.stop()
