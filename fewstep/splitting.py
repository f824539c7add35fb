"""Networks that see their batch in parts: the rows of one device, and of those so many at once.

Neither changes what is trained: a network that acts on each row alone (`Rowwise`) gives the same rows either way, and
all that follows it, the loss above all, sees the whole batch.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fewstep import distributed
from fewstep.config import Compute
from fewstep.nets.rowwise import Rowwise


@contextlib.contextmanager
def splitting(compute: Compute, device: torch.device) -> Iterator[None]:
    """Inside, every outermost Rowwise network computes this process's share of its batch, and gathers the others'.

    Where there is nothing to split (one process, no microbatch, no compiler) nothing changes.
    """
    split = Split(compute.microbatch, compute.compile and device.type == "cuda")
    if distributed.size() == 1 and not split.microbatch and not split.compile:
        yield
        return
    with _calling(split):
        yield


@contextlib.contextmanager
def _calling(how: Callable[..., Any] | None) -> Iterator[None]:
    """Inside, Rowwise networks are called by `how(net, *inputs, **named)`; None: as they are."""
    before, Rowwise.how = Rowwise.how, how
    try:
        yield
    finally:
        Rowwise.how = before


@dataclass
class Split:
    """How a Rowwise network is called.

    microbatch  rows that it sees at once while it's trained; the activations of one such part are in memory at a time,
                and are computed twice
    compile     by torch.compile, where gradients are wanted; a network that can't be compiled runs as it is
    """

    microbatch: int | None = None
    compile: bool = False
    compiled: WeakKeyDictionary = field(default_factory=WeakKeyDictionary)

    def __call__(self, net: Rowwise, *inputs: Any, **named: Any) -> Any:
        """net(*inputs, **named) for a batch of as many rows as the first input has; other tensors may have them, too.

        Each process computes ceil(rows / W) of them; beyond the last row, it is the last again, and that is cut off.
        """
        rows = len(inputs[0])
        share = -(-rows // distributed.size())
        cut = partial(_rows, of=rows, start=distributed.rank() * share, stop=(distributed.rank() + 1) * share)
        found = self._in_microbatches(net, share, [cut(v) for v in inputs], {k: cut(v) for k, v in named.items()})
        return _each(lambda parts: distributed.gather(parts[0])[:rows], found)

    def _in_microbatches(self, net: Rowwise, rows: int, inputs: list, named: dict) -> Any:
        call = partial(self._call, net)
        if not self.microbatch or rows <= self.microbatch or net.moves:
            return call(*inputs, **named)
        if torch.is_grad_enabled():
            call = partial(checkpoint, call, use_reentrant=False)
        found = []
        for start in range(0, rows, self.microbatch):
            cut = partial(_rows, of=rows, start=start, stop=min(start + self.microbatch, rows))
            found.append(call(*map(cut, inputs), **{name: cut(value) for name, value in named.items()}))
        return _each(torch.cat, *found)

    def _call(self, net: Rowwise, *inputs: Any, **named: Any) -> Any:
        with _calling(None):  # a network inside this one sees what it's given
            if self.compile and torch.is_grad_enabled():
                return self._compiled(net)(*inputs, **named)
            return net(*inputs, **named)

    def _compiled(self, net: nn.Module) -> Callable[..., Any]:
        """The network compiled at its first call; the module itself, and its state's names, stay as they are."""
        if net not in self.compiled:
            self.compiled[net] = _or_as_it_is(torch.compile(net.forward), net.forward)
        return self.compiled[net]


def _or_as_it_is(compiled: Callable[..., Any], plain: Callable[..., Any]) -> Callable[..., Any]:
    """`compiled`, or `plain` where the first call fails, which is told in a line.

    Only the first: later on, a checkpoint ends what it computes again by an exception.
    """
    chosen: list[Callable[..., Any]] = []

    def call(*inputs: Any, **named: Any) -> Any:
        if chosen:
            return chosen[0](*inputs, **named)
        try:
            found = compiled(*inputs, **named)
            chosen.append(compiled)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            found = plain(*inputs, **named)  # a call that is wrong raises here, too
            chosen.append(plain)
            why = " ".join(str(error).split())[:150] or type(error).__name__
            print(f"torch.compile failed, so the network runs as it is: {why}", file=sys.stderr, flush=True)
        return found

    return call


def _rows(value: Any, of: int, start: int, stop: int) -> Any:
    """Rows start … stop - 1 of a tensor of `of` rows, its last one in the place of those beyond; else the value."""
    if not (isinstance(value, Tensor) and value.ndim and len(value) == of):
        return value
    rows = value[start:stop]
    lacking = stop - start - len(rows)
    return torch.cat([rows, value[-1:].expand(lacking, *value.shape[1:])]) if lacking else rows


def _each(make: Callable[[list[Tensor]], Tensor], *outputs: Any) -> Any:
    """One output of several alike, each a tensor, None, or a list or tuple of such: make(its parts) at every tensor."""
    first = outputs[0]
    if isinstance(first, list | tuple):
        return type(first)(_each(make, *parts) for parts in zip(*outputs, strict=True))
    return None if first is None else make(list(outputs))
