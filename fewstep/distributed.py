"""What the processes of one job tell each other, one device each (`fewstep.processes` starts them).

Training on W of them equals training on one. All hold the same weights, draw the same batch and the same numbers, and
compute the same loss L; only the rows of the networks' batches are split (`fewstep.splitting`). Each follows the
gradient of L / W back to its own copy of the weights, through what the others computed, and the copies' gradients are
summed. By the chain rule that sum is dL of the whole batch, whatever L does with it.

In a job of one process every function here does nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable

BUCKET = 2**24  # numbers that are sent at once


def size() -> int:
    """W, how many processes the job has."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """This process's number, 0 … W - 1."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def is_first() -> bool:
    """Whether this is the process that writes files and reports progress."""
    return rank() == 0


class _Gather(torch.autograd.Function):
    """A concatenation over processes, and its adjoint: each gets the sum of what all have for its rows.

    A gradient of this gradient, as a penalty on gradients takes it, would be wrong, and is refused.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        all_rows = x.new_empty(size() * len(x), *x.shape[1:])
        distributed.all_gather_into_tensor(all_rows, x.contiguous())
        return all_rows

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        own = gradient.new_empty(len(gradient) // size(), *gradient.shape[1:])
        distributed.reduce_scatter_tensor(own, gradient.contiguous())
        return own


def gather(x: Tensor) -> Tensor:
    """Rows [B, ...] of every process, as many of each -> [W B, ...] in the processes' order, with their gradient."""
    return _Gather.apply(x) if size() > 1 else x


def backward(value: Tensor, weights: Sequence[Tensor]) -> None:
    """The gradient of a loss that every process computed, into `weights`' own `grad`."""
    if size() == 1:
        value.backward()
        return
    (value / size()).backward()
    _in_buckets([weight.grad for weight in weights if weight.grad is not None], distributed.all_reduce)


def copy_first(tensors: Iterable[Tensor]) -> None:
    """Make tensors on every process what they are on the first."""
    if size() > 1:
        _in_buckets([tensor.detach() for tensor in tensors], lambda flat: distributed.broadcast(flat, 0))


def told(value: Any) -> Any:
    """What the first process says: any object of plain values and tensors."""
    if size() == 1:
        return value
    said = [value]
    distributed.broadcast_object_list(said, 0)
    return said[0]


def from_all(value: Any) -> list[Any]:
    """What each process says, in order."""
    if size() == 1:
        return [value]
    said: list[Any] = [None] * size()
    distributed.all_gather_object(said, value)
    return said


def to_first(value: Any) -> list[Any]:
    """What each process says, in order, for the first alone; the others get nothing."""
    if size() == 1:
        return [value]
    said: list[Any] | None = [None] * size() if is_first() else None
    distributed.gather_object(value, said, 0)
    return said or []


def wait() -> None:
    """Go on once every process has come here. It's a sum on the CPU: a barrier of GPUs would need all of them idle."""
    if size() > 1:
        distributed.all_reduce(torch.zeros(1))


@contextlib.contextmanager
def first_before_others() -> Iterator[None]:
    """The first process goes through the block, then the others: they find the files that it wrote."""
    if not is_first():
        wait()
    yield
    if is_first():
        wait()


@torch.no_grad()
def _in_buckets(tensors: Sequence[Tensor], send: Any) -> None:
    """Replace tensors by what `send` makes of them in place; many small ones go together, as one flat tensor."""
    for bucket in _buckets(tensors):
        flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
        send(flat)
        for tensor, values in zip(bucket, flat.split([tensor.numel() for tensor in bucket]), strict=True):
            tensor.copy_(values.view(tensor.shape))


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Neighbours of one dtype and device, together up to BUCKET numbers."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        alike = not bucket or (tensor.dtype, tensor.device) == (bucket[0].dtype, bucket[0].device)
        if bucket and not (alike and sum(t.numel() for t in bucket) + tensor.numel() <= BUCKET):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket
