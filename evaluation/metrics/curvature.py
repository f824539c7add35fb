"""How far from straight lines the paths are: the same protocol for every model."""

from __future__ import annotations

from torch import Tensor


def curvature(path: Tensor, u: Tensor, slopes: Tensor) -> Tensor:
    """Per sample and per element: the mean over steps of |dz/dtau - (z_0 - z_N)|^2 with tau = u / u_max.

    path [N + 1, B, ...] (noise end first), u [N + 1], slopes dz/du [N, B, ...]; returns [B]. Zero for straight paths
    of constant speed. The estimator of arXiv 2301.12003 and 2405.20320 (S of arXiv 2209.03003 divided by the number of
    elements); its value depends on N, which must be told with it.
    """
    chord = path[0] - path[-1]
    return (slopes * u[0].to(slopes) - chord).square().flatten(2).mean(dim=(0, 2))


def arc_length_ratio(path: Tensor) -> Tensor:
    """Length of each path [N + 1, B, ...] over the distance of its ends, [B], at least 1."""
    lengths = (path[1:] - path[:-1]).flatten(2).norm(dim=2).sum(0)
    return lengths / (path[0] - path[-1]).flatten(1).norm(dim=1)
