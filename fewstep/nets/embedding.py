"""From a scalar noise level and optional conditions to one embedding vector."""

import math

import torch
from torch import nn

from fewstep.nets.rowwise import Linear, SiLU


class PositionalEmbedding(nn.Module):
    """Sines and cosines at geometric frequencies 1 … 1/max_positions (Ho et al. 2020, DDPM; Song et al. 2021, DDPM++).

    forward: [B] -> [B, channels]. `endpoint` makes the lowest frequency exactly 1/max_positions. Constants as they are,
    the frequencies need not be saved with the weights (`saved`).
    """

    def __init__(self, channels: int, max_positions: float = 10000, endpoint: bool = False, saved: bool = True):
        super().__init__()
        half = _half(channels)
        exponent = torch.arange(half, dtype=torch.float64) / max(half - int(endpoint), 1)
        frequencies = torch.exp(-math.log(max_positions) * exponent)
        self.register_buffer("frequencies", frequencies.to(torch.get_default_dtype()), persistent=saved)

    def forward(self, c: torch.Tensor) -> torch.Tensor:
        return _waves(c, self.frequencies)


class FourierEmbedding(nn.Module):
    """Random Fourier features cos, sin of 2 pi f c with f ~ N(0, scale^2) (Tancik et al. 2020; NCSN++).

    forward: [B] -> [B, channels]. The frequencies are a buffer: saved with the weights, never trained. They are drawn
    from `generator` or, without one, from a generator of their own seeded with `seed`; the global RNG stays untouched.
    """

    def __init__(self, channels: int, scale: float = 16, generator: torch.Generator | None = None, seed: int = 0):
        super().__init__()
        generator = generator or torch.Generator().manual_seed(seed)
        frequencies = torch.randn(_half(channels), generator=generator) * (2 * math.pi * scale)
        self.register_buffer("frequencies", frequencies)

    def forward(self, c: torch.Tensor) -> torch.Tensor:
        return _waves(c, self.frequencies)


class ConditionEmbedding(nn.Module):
    """Noise level, label and augmentation as one vector: time embedding + linear(label) + linear(augment).

    forward: c_noise [B] (or one number for all), label [B, label_dim] one-hot or None, augment [B, augment_dim] or None
    -> [B, channels]. None adds nothing, which is the unconditional embedding, and that of an image left as it was.
    Raises ValueError for a condition the net was built without, or of the wrong width.
    """

    def __init__(self, channels: int, kind: str = "positional", label_dim: int = 0, augment_dim: int = 0):
        super().__init__()
        kinds = {"positional": PositionalEmbedding, "fourier": FourierEmbedding}
        if kind not in kinds:
            raise ValueError(f"unknown embedding {kind!r}; allowed: {', '.join(kinds)}")
        self.label_dim, self.time = label_dim, kinds[kind](channels)
        self.label = Linear(label_dim, channels, bias=False) if label_dim else None
        self.augment_dim = augment_dim
        self.augment = Linear(augment_dim, channels, bias=False) if augment_dim else None

    def forward(self, x, c_noise, label=None, augment=None) -> torch.Tensor:
        """The embedding in the dtype and for the batch of x [B, …]."""
        embedding = self.time(c_noise.reshape(-1).expand(len(x))).to(x.dtype)
        if label is not None:
            # Default init draws weights within 1/sqrt(label_dim), made for dense inputs; a one-hot needs that undone.
            label = told("label", label, embedding, self.label_dim)
            embedding = embedding + self.label(label * math.sqrt(self.label_dim))
        if augment is not None:
            embedding = embedding + self.augment(told("augment", augment, embedding, self.augment_dim))
        return embedding


class ExtraEmbedding(nn.Module):
    """A further condition, such as a code: embedding + mlp(extra), two layers (arXiv 2409.17487, §3.2).

    forward: embedding [B, width], extra [B, extra_dim] or None, which adds nothing -> [B, width]. It doesn't start at
    zero: a condition that is learnt with the net would get no gradient then. Raises ValueError as `ConditionEmbedding`
    does.
    """

    def __init__(self, extra_dim: int, width: int):
        super().__init__()
        self.extra_dim, self.mlp = extra_dim, None
        if extra_dim:
            self.mlp = nn.Sequential(Linear(extra_dim, width), SiLU(), Linear(width, width))

    def forward(self, embedding, extra=None) -> torch.Tensor:
        if extra is None:
            return embedding
        return embedding + self.mlp(told("extra", extra, embedding, self.extra_dim))


def told(name: str, value: torch.Tensor, embedding: torch.Tensor, dim: int) -> torch.Tensor:
    """A condition [B, dim] in the embedding's dtype. Raises ValueError if the net has none, or one of another width."""
    if not dim:
        raise ValueError(f"this net was built without {name}_dim, so it takes no {name}")
    if value.shape != (len(embedding), dim):
        raise ValueError(f"{name} must be {(len(embedding), dim)}, not {tuple(value.shape)}")
    return value.to(embedding.dtype)


def beside(x: torch.Tensor, maps: torch.Tensor | None) -> torch.Tensor:
    """x [B, C, …] with further channels `maps` [B, C', …], or without any."""
    return x if maps is None else torch.cat([x, maps.to(x.dtype)], dim=1)


def zero(module: nn.Module) -> nn.Module:
    """`module` with all parameters set to zero."""
    for p in module.parameters():
        nn.init.zeros_(p)
    return module


def _half(channels: int) -> int:
    if channels < 2 or channels % 2:
        raise ValueError(f"an embedding needs an even number of channels, at least 2, not {channels}")
    return channels // 2


def _waves(c, frequencies):
    angles = c.to(frequencies.dtype)[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)
