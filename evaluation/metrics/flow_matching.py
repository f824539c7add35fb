"""How well a model's velocity fits the straight lines between the pairs that it was trained on."""

from __future__ import annotations

from torch import Tensor


def flow_matching_loss(velocity: Tensor, x0: Tensor, noise: Tensor) -> Tensor:
    """Per pair and per element: |(noise - x_0) - dz/du|^2, all [B, ...] on the straight path; returns [B].

    The conditional flow-matching loss (arXiv 2209.03003 eq. 1, 2210.02747 eq. 9). Its least value, which E[noise - x_0
    | z_u] reaches, is how much the lines of different pairs disagree where they meet; it is 0 where they never do.
    """
    return (noise - x0 - velocity).square().flatten(1).mean(1)
