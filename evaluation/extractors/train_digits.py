"""Trains the classifier behind `fd_digits`: python -m evaluation.extractors.train_digits [--out FILE].

This made digits_cnn.safetensors. It is kept as a record: other versions of PyTorch give other weights, and distances
on other weights are other numbers, so the file that ships is never made anew.

A linear decoder reads the image back from the features while the classifier trains, and is then dropped. Without it the
features of a class shrink towards a point and the distance hardly sees noise or blur: in units of the distance of 1,797
draws from the data, white noise was at 190 without it and is at 780 with it, noise of std 0.1 on the data at 0.6 and
2.7. Noise in the augmentation stays small for the same reason: a network taught to ignore noise cannot judge it.
"""

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import sklearn
import torch
import torch.nn.functional as F
from safetensors.torch import save
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from evaluation.extractors.digits import CHECKSUM, FEATURES, WEIGHTS, DigitsCNN
from fewstep.files import write_bytes, write_text
from fewstep.images import from_uint8, to_uint8

SEED, STEPS, BATCH, RATE, DECAY = 0, 3000, 64, 2e-3, 0.05
NOISE, SMOOTHING = 0.03, 0.05  # standard deviation of the noise on images in [-1, 1]; label smoothing
DECODING = 10.0  # weight of the decoder's mean squared error beside the cross-entropy


def split() -> list[torch.Tensor]:
    """Train images, test images [n, 1, 8, 8] (quantised as at evaluation), train labels, test labels; 80 % to 20 %."""
    digits = load_digits()
    x = from_uint8(to_uint8(torch.from_numpy(digits.images).float().unsqueeze(1) / 8 - 1))
    parts = train_test_split(x.numpy(), digits.target, test_size=0.2, stratify=digits.target, random_state=SEED)
    return [torch.from_numpy(part) for part in parts]


def augment(x: torch.Tensor, g: torch.Generator) -> torch.Tensor:
    """Images [B, 1, 8, 8] shifted by -1, 0 or 1 pixel along each axis, with noise of random strength up to NOISE."""
    shift = torch.randint(0, 3, (2, len(x), 1), generator=g) + torch.arange(8)
    padded = F.pad(x, (1, 1, 1, 1), value=-1)[:, 0]
    x = padded[torch.arange(len(x))[:, None, None], shift[0][:, :, None], shift[1][:, None, :]].unsqueeze(1)
    strength = NOISE * torch.rand(len(x), 1, 1, 1, generator=g)
    return (x + strength * torch.randn(x.shape, generator=g)).clamp(-1, 1)


def train() -> tuple[DigitsCNN, float]:
    """The trained classifier and its accuracy on the test images, which training never sees."""
    torch.set_num_threads(1)  # one order of every sum
    torch.manual_seed(SEED)
    g = torch.Generator().manual_seed(SEED)
    x, x_test, y, y_test = split()
    net, decoder = DigitsCNN(), nn.Linear(FEATURES, 64)
    optimizer = torch.optim.AdamW([*net.parameters(), *decoder.parameters()], lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
    for _ in range(STEPS):
        i = torch.randint(0, len(x), (BATCH,), generator=g)
        images = augment(x[i], g)
        f = net.features(images)
        loss = F.cross_entropy(net.classes(f), y[i], label_smoothing=SMOOTHING)
        loss = loss + DECODING * F.mse_loss(decoder(f), images.flatten(1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    net.eval().requires_grad_(False)
    return net, (net(x_test).argmax(1) == y_test).double().mean().item()


def describe(net: DigitsCNN) -> str:
    """How alive the features are over all images: how many hardly vary, condition and rank of the covariance."""
    x, x_test, _, _ = split()
    covariance = np.cov(net.features(torch.cat([x, x_test])).double().numpy().T)
    dead, spectrum = (
        int((covariance.diagonal() < 1e-3 * covariance.diagonal().mean()).sum()),
        np.linalg.eigvalsh(covariance),
    )
    rank = spectrum.sum() ** 2 / (spectrum**2).sum()
    return f"nearly constant features {dead}, condition {spectrum[-1] / spectrum[0]:.3g}, effective rank {rank:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="where the weights go; the checksum goes beside them")
    out = parser.parse_args().out
    net, accuracy = train()
    facts = {"data": "scikit-learn digits", "seed": SEED, "steps": STEPS, "accuracy": round(accuracy, 4)}
    versions = {"torch": torch.__version__, "scikit-learn": sklearn.__version__, "numpy": np.__version__}
    # One key: safetensors writes several in random order, and the checksum would change from run to run.
    data = save(net.state_dict(), metadata={"facts": json.dumps(facts | versions)})
    write_bytes(out, data)
    sha256 = hashlib.sha256(data).hexdigest()
    write_text(out.with_suffix(CHECKSUM.suffix), f"{sha256}  {out.name}\n")
    print(f"test accuracy {accuracy:.2%} of {len(split()[1])} images; {describe(net)}")
    print(f"{out.name}: {len(data)} bytes, SHA-256 {sha256}")


if __name__ == "__main__":
    main()
