"""What is known of an image: a linear orthonormal operator A, and the mask Omega of what is to be generated.

The three operators of consistency models (Song et al. 2023, arXiv 2303.01469, Algorithm 4 and appendix).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from fewstep.editing import REGIONS
from fewstep.errors import UserError
from fewstep.seeds import generator
from fewstep.suggest import unknown

LUMA = (0.2989, 0.5870, 0.1140)  # ITU-R BT.601, the weights of consistency models


@dataclass(frozen=True)
class Operator:
    """A: x [B, C, H, W] -> coordinates [B, ...], its inverse, and Omega [...]: 1 where a coordinate is generated."""

    A: Callable[[Tensor], Tensor]
    A_inverse: Callable[[Tensor], Tensor]
    Omega: Tensor

    def known(self, z: Tensor) -> Tensor:
        """A^-1[(A z) (1 - Omega)]: z [B, C, H, W] without what is to be generated."""
        return self.A_inverse(self.A(z) * (1 - self.Omega.to(z)))

    def join(self, z: Tensor, x: Tensor) -> Tensor:
        """A^-1[(A z) (1 - Omega) + (A x) Omega]: what is known from z, the rest from x, both [B, C, H, W]."""
        Omega = self.Omega.to(z)
        return self.A_inverse(self.A(z) * (1 - Omega) + self.A(x) * Omega)


def basis(first: Tensor) -> Tensor:
    """Orthonormal columns [n, n] in float64, the first of them along `first` [n], whose first entry is not 0."""
    columns = torch.eye(len(first), dtype=torch.float64)
    columns[:, 0] = first.double()
    Q, R = torch.linalg.qr(columns)
    return Q * R.diagonal().sign()  # QR leaves the signs open; so the first column points along `first`


def inpainting(shape: tuple[int, ...], region: str = "left", share: float = 0.5, mask_seed: int = 0) -> Operator:
    """Pixels of a region are generated: a half, the centre (half of either side), or a random share of all pixels.

    share and mask_seed are of `random` alone; one mask serves all images. UserError for an unknown region, and for a
    mask that hides no pixel or all of them.
    """
    _, H, W = shape
    Omega = torch.zeros(1, H, W)
    match region:
        case "left":
            Omega[:, :, : W // 2] = 1
        case "right":
            Omega[:, :, W - W // 2 :] = 1
        case "top":
            Omega[:, : H // 2] = 1
        case "bottom":
            Omega[:, H - H // 2 :] = 1
        case "centre":
            Omega[:, H // 4 : H // 4 + H // 2, W // 4 : W // 4 + W // 2] = 1
        case "random":
            order = torch.randperm(H * W, generator=generator("edit mask", mask_seed))
            Omega.view(-1)[order[: round(share * H * W)]] = 1
        case _:
            raise UserError(unknown("region", region, REGIONS))
    if not 0 < Omega.sum() < H * W:
        raise UserError(f"the mask hides {int(Omega.sum())} of {H * W} pixels; it needs some of each, see --share")
    return Operator(lambda x: x, lambda x: x, Omega)


def colourisation(shape: tuple[int, ...]) -> Operator:
    """Brightness (luma) is known, the two other directions of colour are generated. UserError unless images are RGB."""
    if shape[0] != 3:
        raise UserError(f"colourise needs images of 3 channels, and these have {shape[0]}; choose inpaint or superres")
    Q = basis(torch.tensor(LUMA))
    return Operator(partial(_along_colours, Q.T), partial(_along_colours, Q), torch.tensor([0.0, 1, 1]).view(3, 1, 1))


def _along_colours(Q: Tensor, x: Tensor) -> Tensor:
    return torch.einsum("ij,bjhw->bihw", Q.to(x), x)


def super_resolution(shape: tuple[int, ...], factor: int = 2) -> Operator:
    """The mean of every patch of p × p pixels is known, p = factor; the p^2 - 1 other directions are generated.

    UserError unless 2 <= p and p divides both sides.
    """
    p = factor
    if p < 2 or any(side % p for side in shape[1:]):
        sides = " × ".join(map(str, shape[1:]))
        raise UserError(f"superres needs a factor of 2 or more that divides both sides, {sides} pixels; got {p}")
    Q = basis(torch.ones(p * p))

    def to_patches(x: Tensor) -> Tensor:
        patches = F.pixel_unshuffle(x, p).unflatten(1, (-1, p * p))  # [B, C, p^2, H / p, W / p]
        return torch.einsum("ji,bcjhw->bcihw", Q.to(x), patches)

    def from_patches(coordinates: Tensor) -> Tensor:
        patches = torch.einsum("ij,bcjhw->bcihw", Q.to(coordinates), coordinates)
        return F.pixel_shuffle(patches.flatten(1, 2), p)

    Omega = torch.ones(p * p, 1, 1)
    Omega[0] = 0
    return Operator(to_patches, from_patches, Omega)
