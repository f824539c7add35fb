"""Names that papers' files may use: confidences, datasets, metrics and what a FID is computed on."""

from __future__ import annotations

from typing import Literal

from evaluation.extractors import EXTRACTORS
from evaluation.metrics import METRICS, of_extractor

# How a number came here, from sure to unsure.
CONFIDENCE = {
    "paper": "read in the paper",
    "repository": "read in the authors' repository",
    "abstract": "read in the abstract",
    "quoted": "quoted by another paper",
    "digest": "from a third party's digest of the paper",
    "review": "from reviews of an earlier version",
    "memory": "general knowledge, not checked",
    "missing": "its values were not found",  # of a table without any
}
DATASETS = {
    "cifar10": "CIFAR-10",
    "cifar10_cond": "CIFAR-10, class-conditional",
    "ffhq64": "FFHQ 64×64",
    "afhqv2_64": "AFHQv2 64×64",
    "imagenet64": "ImageNet 64×64",
    "imagenet64_blurred": "ImageNet 64×64, faces blurred",
    "imagenet256": "ImageNet 256×256",
    "imagenet512": "ImageNet 512×512",
    "lsun_bedroom256": "LSUN Bedroom 256×256",
    "lsun_church256": "LSUN Church 256×256",
    "celebahq256": "CelebA-HQ 256×256",
    "afhq_cat256": "AFHQ-Cat 256×256",
    "ffhq256": "FFHQ 256×256",
    "coco2017": "COCO 2017",
    "coco5k": "COCO, 5,000 prompts",
    "coco30k": "COCO, 30,000 prompts",
    "digits": "digits",
    "eight_gaussians": "8 Gaussians",
    "moons": "moons",
    "checkerboard": "checkerboard",
}
# Metrics that papers print and nothing here measures: label, and whether higher is better.
PRINTED = {"clip": ("CLIP score", True)}
# Metrics that a small dataset has in another form, on its own features. All others mean the same everywhere.
ON_FEATURES = {*PRINTED, *(metric for name, spec in EXTRACTORS.items() for metric, _ in of_extractor(name, spec))}
# What a paper's FID is computed on, by our extractors' names; `clean-fid` resizes as none of ours does. Only numbers on
# the same features compare.
Extractor = Literal["inception", "inception_pytorch", "dinov2", "clean-fid", ""]


def label_of(metric: str) -> str:
    """A metric's name in tables."""
    return METRICS[metric].label if metric in METRICS else PRINTED[metric][0]


def higher_is_better(metric: str) -> bool:
    """A metric's direction."""
    return METRICS[metric].higher_is_better if metric in METRICS else PRINTED[metric][1]
