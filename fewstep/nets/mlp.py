"""A multilayer perceptron for 2-D and other flat data."""

import math

import torch
from torch import nn

from fewstep.nets.embedding import ConditionEmbedding, ExtraEmbedding, beside, zero
from fewstep.nets.rowwise import Linear, Rowwise, silu


class MLP(Rowwise):
    """`depth` hidden SiLU layers of `width`; the embedding is added, by a linear map of its own, inside each of them.

    forward: x [B, *shape], c_noise [B], label [B, label_dim], extra [B, extra_dim], maps [B, maps], augment
        [B, augment_dim] -> like x. The output starts at zero. maps: how many further numbers the input has, beside x.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        width: int = 128,
        depth: int = 3,
        embedding: str = "positional",
        embedding_channels: int = 32,
        label_dim: int = 0,
        extra_dim: int = 0,
        maps: int = 0,
        augment_dim: int = 0,
    ):
        super().__init__()
        size = math.prod(shape)
        self.embed = ConditionEmbedding(embedding_channels, embedding, label_dim, augment_dim)
        # One matrix for all layers' embedding terms: one product a call instead of `depth` small ones.
        self.modulate = Linear(embedding_channels, width * depth)
        self.hidden = nn.ModuleList([Linear(size + maps if i == 0 else width, width) for i in range(depth)])
        self.out = zero(Linear(width, size))
        self.extra = ExtraEmbedding(extra_dim, embedding_channels)

    def forward(self, x, c_noise, label=None, extra=None, maps=None, augment=None) -> torch.Tensor:
        embedding = self.extra(self.embed(x, c_noise, label, augment), extra)
        shifts = self.modulate(embedding).chunk(len(self.hidden), dim=1)
        h = beside(x, maps).flatten(1)
        for layer, shift in zip(self.hidden, shifts, strict=True):
            h = silu(layer(h) + shift)
        return self.out(h).reshape(x.shape)
