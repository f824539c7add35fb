"""NVIDIA's network pickles, read without running any code of theirs.

`torch_utils.persistence` pickles a network as its class's source code, to be executed at unpickling, and its state.
Here the source is never looked at: every object becomes a `Shell` with a name and a state, and the unpickler knows only
what such pickles need (KNOWN). It raises UserError for anything else, before it's called. A pickle may also set
attributes of what it got, so nothing that it can get has any to set: functions, dictionaries and tensors are handed out
as objects that refuse it, or drop what they are given.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fewstep.errors import CheckpointError, UserError
from fewstep.pretrained.location import TORCH_LEGACY
from fewstep.sealed import Function, Sealed

NUMBER = re.compile(r"[fiu][248]|b1")
NAME = re.compile(r"\w{1,100}")
CALLS = ("REDUCE", "NEWOBJ", "BUILD")  # the opcodes that torch's own unpickler calls or changes something by
DTYPES = (
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.bool),
)


class Shell:
    """What stands for an object: the name of its class and its state (None before the pickle gave one)."""

    class_name = ""
    state: Any = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Shell:
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def part(self, name: str) -> Any:
        """An attribute, a module, a parameter or a buffer by its name; None where there is none."""
        state = self.state if isinstance(self.state, dict) else {}
        for group in (state, *(state.get(key) for key in ("_modules", "_parameters", "_buffers"))):
            if isinstance(group, dict) and name in group:
                return group[name]
        return None

    def tensors(self) -> dict[str, Tensor]:
        """The parameters and buffers of a module and of those inside it, as its `state_dict()` would name them.

        Raises ValueError for a module that stands at two places: shared over and over, a few make millions of names.
        """
        return dict(self._tensors("", set()))

    def _tensors(self, prefix: str, seen: set[int]) -> Iterator[tuple[str, Tensor]]:
        state = self.state if isinstance(self.state, dict) else {}
        groups = [group for name in ("_parameters", "_buffers", "_modules") if (group := state.get(name))]
        for thing in (self, *groups):
            if id(thing) in seen:
                raise ValueError(f"{prefix[:100]} is also elsewhere")
            seen.add(id(thing))
        for group in groups:
            for name, value in group.items():
                if not NAME.fullmatch(name):
                    raise ValueError("a module's name is no word")
                if isinstance(value, _Array):
                    yield prefix + name, value.tensor
                elif isinstance(value, Shell):
                    yield from value._tensors(f"{prefix}{name}.", seen)


def load(path: str | Path) -> Any:
    """What a pickle holds, its objects as `Shell`s.

    Raises UserError for what it must not ask for, CheckpointError for a truncated or foreign file.
    """
    try:
        with Path(path).open("rb") as handle:
            return _Unpickler(handle, path).load()
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; put the checkpoint there or change the path in the study") from None
    except Exception as error:  # a damaged pickle may raise anything, MemoryError too
        why = " ".join(str(error).split())[:120] or type(error).__name__
        raise CheckpointError(f"{path} is not a whole pickle of a network ({why}); download it again") from None


class _Unpickler(pickle.Unpickler):
    def __init__(self, handle: io.BufferedReader, path: str | Path):
        super().__init__(handle)
        self.path = path

    def find_class(self, module: str, name: str) -> Any:
        try:
            return KNOWN[f"{module}.{name}"]
        except KeyError:
            raise UserError(
                f"{self.path} asks for {module}.{name}, which no network of EDM's needs; none of its code was run; "
                "give a pickle that EDM's or MAC's authors released"
            ) from None


class _Array(Sealed):
    """A tensor, or the numbers of a storage as one."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: Tensor):
        self.tensor = tensor


class _Dict(dict):
    """A dictionary whose attributes, if a pickle gives it any, are dropped."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        pass


class _DType:
    """A NumPy dtype as its code, such as "f8"; its byte order comes later."""

    __slots__ = ("code", "order")

    def __init__(self, code: str, *_: Any):
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1]


def _number(dtype: _DType, data: bytes) -> Any:
    if not NUMBER.fullmatch(dtype.code) or dtype.order not in ("<", ">", "=", "|"):
        raise ValueError("a number of a dtype that is not known")
    return np.frombuffer(data, dtype.order + dtype.code, count=1)[0].item()


def _storage(data: bytes) -> _Array:
    """The numbers [n] of a storage; its bytes are a file by torch.save, in the form before 1.6."""
    if not data.startswith(TORCH_LEGACY) or _calls(data):
        raise ValueError("something else in place of a storage")
    found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    if type(found) is not torch.storage.TypedStorage or found.dtype not in DTYPES:
        raise ValueError("something else in place of a storage")
    return _Array(torch.empty(0, dtype=found.dtype).set_(found._untyped_storage))


def _calls(data: bytes) -> bool:
    """Whether such a file would call something; torch allows much more than a storage needs, such as huge bytearrays.

    Four pickles go before the numbers: a magic number, the version, the system, and what was saved.
    """
    stream = io.BytesIO(data)
    return any(code.name in CALLS for _ in range(4) for code, _, _ in pickletools.genops(stream))


def _tensor(storage: _Array, offset: int, size: tuple, stride: tuple, *_: Any) -> _Array:
    """A view of a storage's numbers, each of which it shows once at most."""
    if type(storage) is not _Array or not all(type(n) is int for n in (offset, *size, *stride)):
        raise ValueError("a tensor of something else than numbers")
    last, held = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)), storage.tensor.numel()
    if min((offset, *size, *stride)) < 0 or (0 not in size and last >= held):
        raise ValueError("a tensor reaches beyond its storage")
    if math.prod(size) > held:
        raise ValueError("a tensor has more numbers than its storage")
    return _Array(storage.tensor.as_strided(size, stride, offset))


def _parameter(data: _Array, *_: Any) -> _Array:
    return data


def _persistent(meta: dict[str, Any]) -> Shell:
    """An object of `torch_utils.persistence`; `meta["module_src"]`, its source code, stays a string."""
    if not NAME.fullmatch(meta["class_name"]):
        raise ValueError("a class's name is no word")
    shell = Shell()
    shell.class_name, shell.state = meta["class_name"], meta["state"]
    return shell


def _shell(name: str) -> type[Shell]:
    return type(name, (Shell,), {"class_name": name})


# Functions are sealed. Of the classes, BUILD reaches only a `__setstate__` that lacks its object, and fails.
KNOWN: dict[str, Function | type] = {
    "torch_utils.persistence._reconstruct_persistent_obj": Function(_persistent),
    "torch._utils._rebuild_tensor_v2": Function(_tensor),
    "torch._utils._rebuild_parameter": Function(_parameter),
    "torch.storage._load_from_bytes": Function(_storage),
    "collections.OrderedDict": _Dict,
    "builtins.set": Function(set),
    "dnnlib.util.EasyDict": _Dict,
    "numpy.dtype": Function(_DType),
    "numpy.core.multiarray.scalar": Function(_number),
    "numpy._core.multiarray.scalar": Function(_number),
}
# Classes, and in MAC's pickles a function and a dtype, that are looked at as names only.
for _name in (
    *(f"torch.nn.modules.container.{kind}" for kind in ("ModuleDict", "ModuleList", "Sequential")),
    *(f"training_ito.generator.{name}" for name in ("Generator", "edmmpo_sampler")),
    "mac.coefficient_generator.CoefficientGenerator",
    "mac.mac_calculator.SinusoidalMacCalculator",
    "torch.float32",
):
    KNOWN[_name] = _shell(_name.rpartition(".")[2])
