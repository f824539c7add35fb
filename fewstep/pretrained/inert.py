"""NVIDIA's network pickles, read without running any code of theirs.

`torch_utils.persistence` pickles a network as its class's source code, to be executed at unpickling, and its state.
Here the source is never looked at: every object becomes a `Shell` with a name and a state, and the unpickler knows only
what such pickles need (KNOWN). It raises UserError for anything else, before it's called.
"""

from __future__ import annotations

import io
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fewstep.errors import CheckpointError, UserError

NUMBER = re.compile(r"[fiu][248]|b1")


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

    def tensors(self, prefix: str = "") -> dict[str, Tensor]:
        """The parameters and buffers of a module and of those inside it, as its `state_dict()` would name them."""
        state, found = self.state if isinstance(self.state, dict) else {}, {}
        for group in ("_parameters", "_buffers"):
            found |= {prefix + name: t for name, t in (state.get(group) or {}).items() if isinstance(t, Tensor)}
        for name, module in (state.get("_modules") or {}).items():
            if isinstance(module, Shell):
                found |= module.tensors(f"{prefix}{name}.")
        return found


def load(path: str | Path) -> Any:
    """What a pickle holds, its objects as `Shell`s.

    Raises UserError for what it must not ask for, CheckpointError for a truncated or foreign file.
    """
    try:
        with Path(path).open("rb") as handle:
            return _Unpickler(handle, path).load()
    except (UserError, MemoryError):
        raise
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; put the checkpoint there or change the path in the study") from None
    except Exception as error:  # a damaged pickle may raise anything
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


class _Dict(dict):
    """A dictionary whose attributes, if a pickle gives it any, are dropped."""

    def __setstate__(self, state: Any) -> None:
        pass


class _DType:
    """A NumPy dtype as its code, such as "f8"; its byte order comes later."""

    order = "="

    def __init__(self, code: str, *_: Any):
        self.code = code

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1]


def _number(dtype: _DType, data: bytes) -> Any:
    if not NUMBER.fullmatch(dtype.code) or dtype.order not in ("<", ">", "=", "|"):
        raise ValueError(f"a number of dtype {dtype.order}{dtype.code}")
    return np.frombuffer(data, dtype.order + dtype.code)[0].item()


def _storage(data: bytes) -> torch.TypedStorage:
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _tensor(storage: torch.TypedStorage, offset: int, size: tuple, stride: tuple, *_: Any) -> Tensor:
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    held = storage._untyped_storage.nbytes() // storage.dtype.itemsize
    if min(offset, *size, *stride) < 0 or (0 not in size and last >= held):
        raise ValueError("a tensor reaches beyond its storage")  # torch would fill it with whatever lies in memory
    return torch._utils._rebuild_tensor(storage, offset, size, stride)


def _parameter(data: Tensor, *_: Any) -> Tensor:
    return data


def _persistent(meta: dict[str, Any]) -> Shell:
    """An object of `torch_utils.persistence`; `meta["module_src"]`, its source code, stays a string."""
    shell = Shell()
    shell.class_name, shell.state = str(meta["class_name"]), meta["state"]
    return shell


def _shell(name: str) -> type[Shell]:
    return type(name, (Shell,), {"class_name": name})


KNOWN: dict[str, Callable] = {
    "torch_utils.persistence._reconstruct_persistent_obj": _persistent,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.storage._load_from_bytes": _storage,
    "collections.OrderedDict": OrderedDict,
    "builtins.set": set,
    "dnnlib.util.EasyDict": _Dict,
    "numpy.dtype": _DType,
    "numpy.core.multiarray.scalar": _number,
    "numpy._core.multiarray.scalar": _number,
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
