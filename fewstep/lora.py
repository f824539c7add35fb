"""Low-rank adaptation, LoRA (arXiv 2106.09685, §4.1): W' = W + (alpha / r) B A with W frozen, B [out, r] and A [r, in].

Every linear map and convolution is adapted, a kernel as the matrix [out, in x k x k]. Biases, norms and whatever else
has weights stay as they are. B is zero at the start, so the adapted network is the plain one until it is trained.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from fewstep.errors import UserError

ADAPTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class LowRank(nn.Module):
    """W -> W + scale B A. A is drawn with variance 1 / in, which the paper leaves open; r is at most the rank of W."""

    def __init__(self, W: Tensor, rank: int, scale: float, rng: torch.Generator):
        super().__init__()
        out, features = W.flatten(1).shape
        r, self.scale = min(rank, out, features), scale
        self.A = nn.Parameter((torch.randn(r, features, generator=rng) / features**0.5).to(W))
        self.B = nn.Parameter(W.new_zeros(out, r))

    def forward(self, W: Tensor) -> Tensor:
        changed = W + self.scale * (self.B @ self.A).reshape(W.shape)
        return torch.empty_like(W).copy_(changed)  # in W's memory format, on which a convolution's rounding depends


def add(model: nn.Module, rank: int, rng: torch.Generator, alpha: float | None = None) -> float:
    """Adapt `model` in place and freeze all but A and B; returns their share of the model's weights.

    alpha  scales the change by alpha / rank; by default it is the rank, as the paper sets it
    rng    a CPU generator for A
    Raises UserError for a rank below 1 and for a model without anything to adapt.
    """
    if not isinstance(rank, int) or rank < 1:
        raise UserError(f"LoRA needs a rank of 1 or more, got {rank!r}")
    adapted = [module for module in model.modules() if isinstance(module, ADAPTED)]
    if not adapted:
        raise UserError("LoRA found no linear map and no convolution in this model; fit all of its weights instead")
    before = sum(weight.numel() for weight in model.parameters())
    model.requires_grad_(False)
    scale = 1.0 if alpha is None else alpha / rank
    for module in adapted:
        register_parametrization(module, "weight", LowRank(module.weight, rank, scale, rng))
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad) / before


def merge(model: nn.Module, plain: nn.Module) -> nn.Module:
    """`plain`, a network as `model` was before `add`, with the adapted weights W + (alpha / r) B A of `model`.

    A copy, because torch's own removal of a parametrisation also breaks the deep copies of the module.
    """
    with torch.no_grad():
        for tensors in (plain.named_parameters(), plain.named_buffers()):
            for name, tensor in tensors:
                owner, _, leaf = name.rpartition(".")
                tensor.copy_(getattr(model.get_submodule(owner), leaf))
    return plain
