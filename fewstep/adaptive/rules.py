"""Where the code of a sample comes from: learnt by an encoder, or by a rule that isolates what learning adds."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from fewstep.adaptive.codebook import Codebook
from fewstep.errors import UserError
from fewstep.losses import normal_like
from fewstep.suggest import one_of


class Rule(nn.Module):
    """forward: data x [B, ...], the encoder's y [B, outputs] or None, a generator -> the code [B, d].

    codebook: of discrete codes, else None; outputs: how many numbers the rule wants of an encoder (0: needs none).
    """

    codebook: Codebook | None = None
    outputs: int = 0

    def __init__(self, d: int):
        super().__init__()
        self.d = d

    def kl(self, y: Tensor | None) -> Tensor | float:
        """What the loss pays for codes that differ from those drawn when sampling, nats a dimension."""
        return 0.0


class Quantised(Rule):
    """QAC: y quantised, straight through (arXiv 2409.17487, §3.2).

    normalise: y is first brought to zero mean and unit variance over the batch, so that no digit of the code stands
    still; the paper prints no such layer.
    """

    def __init__(self, codebook: Codebook, normalise: bool):
        super().__init__(codebook.d)
        self.codebook, self.outputs = codebook, codebook.d
        self.norm = nn.BatchNorm1d(codebook.d, affine=False) if normalise else nn.Identity()

    def forward(self, x: Tensor, y: Tensor | None, rng: torch.Generator) -> Tensor:
        return self.codebook.quantise(self.norm(y))


class Shuffled(Quantised):
    """Control: the learnt codes, but each sample gets another one's; so they tell nothing of it."""

    def forward(self, x: Tensor, y: Tensor | None, rng: torch.Generator) -> Tensor:
        code = super().forward(x, y, rng)
        return code[torch.randperm(len(x), generator=rng).to(code.device)]


class Random(Rule):
    """Control: a random code, the same one whenever the same sample comes: from a hash of its bytes."""

    def __init__(self, codebook: Codebook):
        super().__init__(codebook.d)
        self.codebook = codebook

    def forward(self, x: Tensor, y: Tensor | None, rng: torch.Generator) -> Tensor:
        digests = (hashlib.sha256(row.numpy().tobytes()).digest() for row in x.detach().cpu().contiguous())
        cells = [int.from_bytes(digest[:8], "big") % self.codebook.cells for digest in digests]
        return self.codebook.code(torch.tensor(cells)).to(x.device)


class KMeans(Rule):
    """Control: the nearest of |C| centres of the data, a condition that is not learnt with the flow.

    Raises UserError for more than 4,096 cells: every sample is compared with every centre.
    """

    MOST = 4096

    def __init__(self, codebook: Codebook, size: int):
        super().__init__(codebook.d)
        if codebook.cells > self.MOST:
            raise UserError(f"k-means takes at most {self.MOST} cells, not {codebook.cells}; choose fewer dimensions")
        self.codebook = codebook
        self.register_buffer("centres", torch.full((codebook.cells, size), torch.inf))  # inf: fewer where data are few

    def fit(self, x: Tensor, seed: int) -> None:
        """Lloyd's algorithm from k-means++ on data [N, ...]."""
        import numpy as np
        from scipy.cluster.vq import kmeans2

        flat = x.flatten(1).double().numpy()
        k = min(self.codebook.cells, len(flat))
        centres, _ = kmeans2(flat, k, minit="++", missing="warn", seed=np.random.default_rng(seed))
        self.centres[:k] = torch.from_numpy(centres).to(self.centres)

    def forward(self, x: Tensor, y: Tensor | None, rng: torch.Generator) -> Tensor:
        known = self.centres[self.centres[:, 0].isfinite()].to(x)
        squares = known.square().sum(1) - 2 * x.flatten(1) @ known.T  # |x - c|^2 without |x|^2
        return self.codebook.code(squares.argmin(1))


class Gaussian(Rule):
    """Alternative of the paper's ablation: a Gaussian latent, as in a VAE; drawn from N(0, I) when sampling."""

    def __init__(self, d: int):
        super().__init__(d)
        self.outputs = 2 * d

    def forward(self, x: Tensor, y: Tensor | None, rng: torch.Generator) -> Tensor:
        mean, logvar = y.chunk(2, 1)
        return mean + torch.exp(logvar / 2) * normal_like(mean, rng)

    def kl(self, y: Tensor | None) -> Tensor:
        return gaussian_kl(*y.chunk(2, 1))


def gaussian_kl(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mean, exp(logvar)) || N(0, I)) a dimension, averaged over the batch (fast-ode's get_kl)."""
    return 0.5 * (mean.square() + logvar.exp() - logvar - 1).mean()


def make_rule(kind: str, codebook: Codebook, normalise: bool, size: int) -> Rule:
    """The rule called `kind`; `size` is the number of elements of a sample. Raises UserError for an unknown one."""
    match one_of("code", kind, ["quantised", "shuffled", "random", "kmeans", "gaussian"]):
        case "quantised":
            return Quantised(codebook, normalise)
        case "shuffled":
            return Shuffled(codebook, normalise)
        case "random":
            return Random(codebook)
        case "kmeans":
            return KMeans(codebook, size)
        case "gaussian":
            return Gaussian(codebook.d)
    raise KeyError(kind)
