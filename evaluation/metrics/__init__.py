"""What is measured, under which name, in which unit and in which direction.

A name here is the `metric` column of the records. The functions live in the modules beside this file and are imported
from there, so that reading the table costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from evaluation.extractors import EXTRACTORS, Spec


class Metric(NamedTuple):
    """label: name in tables; unit: of the value; families: kinds of data it is defined on ("vector", "image")."""

    label: str
    unit: str
    higher_is_better: bool
    families: tuple[str, ...]


NEIGHBOURHOOD = {"precision": "share", "recall": "share", "density": "ratio", "coverage": "share"}


def in_groups(name: str, spec: Spec) -> dict[str, list[str]]:
    """What each group of a study's `metrics` computes on an extractor's features."""
    return {
        "fd": [spec.frechet],
        "kd": [spec.kernel],
        "prdc": [f"{kind}_{name}" for kind in NEIGHBOURHOOD],
        "nearest": [f"nearest_{name}"],
        "is": [f"{name}_score"] if spec.has_logits else [],
        "fd_inf": [f"{spec.frechet}_inf"],
    }


def of_extractor(name: str, spec: Spec) -> Iterator[tuple[str, Metric]]:
    """The metrics that an extractor's features allow, by name."""
    image = ("image",)
    where = "" if name == "inception" else f" ({spec.label})"
    frechet, kernel = (metric.split("_")[0].upper() for metric in (spec.frechet, spec.kernel))
    yield spec.frechet, Metric(f"{frechet}{where}", "squared feature distance", False, image)
    yield f"{spec.frechet}_inf", Metric(f"{frechet}∞{where}", "squared feature distance", False, image)
    yield spec.kernel, Metric(f"{kernel}{where}", "squared MMD", False, image)
    for kind, unit in NEIGHBOURHOOD.items():
        yield f"{kind}_{name}", Metric(f"{kind.capitalize()} ({spec.label}, k = 5)", unit, True, image)
    # Far below 1 a model repeats its training images, which is worse than a little above: so higher counts as better.
    nearest = f"Nearest training image ({spec.label}; 0: a copy, 1: as far as they are from each other)"
    yield f"nearest_{name}", Metric(nearest, "ratio", True, image)
    if spec.has_logits:
        yield f"{name}_score", Metric(f"{spec.label} Score", "effective classes", True, image)


# What a fit may report of itself, as `State.info["diagnostics"]`: name to number.
DIAGNOSTICS = {
    "code_entropy": Metric("Entropy of the codes", "bits", True, ("vector", "image")),
    "codes_used": Metric("Codes in use", "codes", True, ("vector", "image")),
    "code_drift": Metric("Drift of the code weights", "total variation", False, ("vector", "image")),
    "loss_true_code": Metric("Loss with each sample's own code", "training loss", False, ("vector", "image")),
    # As low as with the own code, and the network ignores its code: so higher counts as better.
    "loss_shuffled_code": Metric("Loss with codes shuffled", "training loss", True, ("vector", "image")),
    "noise_kl": Metric("KL of the learnt noise", "nats per element", False, ("vector", "image")),
    "encoder_parameters": Metric("Encoder parameters", "weights, in training only", False, ("vector", "image")),
    "encoder_mflop": Metric("Encoder MFLOP", "MFLOP per sample, in training only", False, ("vector", "image")),
    "heldout_loss_before": Metric("Loss on held-out pairs before the fit", "training loss", False, ("vector", "image")),
    "heldout_loss": Metric("Loss on held-out pairs", "training loss", False, ("vector", "image")),
    "trained_share": Metric("Weights that the fit trains", "share of all", False, ("vector", "image")),
}
METRICS = {metric: row for name, spec in EXTRACTORS.items() for metric, row in of_extractor(name, spec)} | {
    "w2": Metric("W₂", "distance in data units", False, ("vector",)),
    "sliced_w2": Metric("Sliced W₂", "distance in data units", False, ("vector", "image")),
    "ode_rmse": Metric("RMSE to the exact ODE", "data units per element", False, ("vector", "image")),
    "curvature": Metric("Curvature", "squared velocity per element", False, ("vector", "image")),
    "straightness": Metric("Straightness", "squared velocity", False, ("vector", "image")),
    "arc_length_ratio": Metric("Arc length over chord", "ratio", False, ("vector", "image")),
    "cfm_loss": Metric("Flow-matching loss", "squared velocity per element", False, ("vector", "image")),
    **DIAGNOSTICS,
}
