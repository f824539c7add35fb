"""The hinge losses of a discriminator D and its generator (Lim and Ye, arXiv 1705.02894). Logits [B, n] -> scalar.

D's lowest loss is 0, at logits of at least 1 on data and at most -1 on what is generated; a D that can't tell them
apart does best with logits in [-1, 1] that are the same for both, at a loss of 2.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import relu


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """E relu(1 - D(x)) + E relu(1 + D(G(z))), means over batch and logits."""
    return relu(1 - real).mean() + relu(1 + fake).mean()


def generator_loss(fake: Tensor) -> Tensor:
    """-E D(G(z)), a mean over batch and logits."""
    return -fake.mean()
