"""Joint training of a network with what stands beside its data, and what the result looks like."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from fewstep.adaptive.joint import Joint
from fewstep.adaptive.rules import KMeans, Quantised
from fewstep.adaptive.weights import counts, entropy, packed, shares, total_variation, used
from fewstep.checkpoints import State
from fewstep.errors import FewstepError
from fewstep.seeds import seed_of
from fewstep.task import Task
from fewstep.training import train

BATCH = 512  # samples that are encoded at once
CLUSTERED = 16_384  # samples, at most, that k-means looks at
PROBES = 4  # batches for the losses with true and with shuffled codes


def fit_jointly(task: Task, joint: Joint, loss: Callable[..., Tensor]) -> State:
    """Minimise `loss(joint, x, rng, **condition)` over network and encoder; the codes' weights follow the average rate.

    The state holds the averaged network and encoder, the online weights and, counted over the training set by the
    averaged encoder, the offline ones. Its diagnostics tell whether the codes are used and mean something.
    """
    if task.loss is None:
        raise FewstepError("the baseline's method.py has no function loss(model, x0, eps, rng, **condition)")
    if isinstance(joint.rule, KMeans):
        joint.rule.fit(task.dataset.subset(CLUSTERED), seed_of(*task.axes, "kmeans"))
    joint = train(task, joint, loss, after_step=Joint.follow)
    state, found = joint.state(task), {}
    if joint.encoder is not None:
        found |= _size(joint.encoder, task.dataset.reference[:1].to(task.device))
    with torch.no_grad():
        if joint.discrete:
            fresh = histogram(joint, task)
            state.tensors |= {f"offline.{name}": tensor for name, tensor in packed(fresh).items()}
            online = shares(joint.w)
            found |= {"code_entropy": entropy(online), "codes_used": used(joint.w)}
            found["code_drift"] = total_variation(online, shares(fresh))
        found |= _losses(joint, task)
    state.tensors |= {f"beside.{k}": v for k, v in joint.kept().items()}  # after the histogram, which moves statistics
    state.info["diagnostics"] = found
    return state


def histogram(joint: Joint, task: Task) -> Tensor:
    """How often the averaged encoder gives each code to the training set, float64 [cells]: the offline weights."""
    if isinstance(joint.rule, Quantised) and isinstance(joint.rule.norm, nn.BatchNorm1d):
        _renormalise(joint, task)
    return counts(torch.cat([joint.cells(x, rng) for x, rng in _passes(task)]), len(joint.w))


def _renormalise(joint: Joint, task: Task) -> None:
    """Mean and variance of the averaged encoder's y: training left those of weights that moved meanwhile."""
    y = torch.cat([joint.encoded(x)[0] for x, _ in _passes(task)])
    joint.rule.norm.running_mean.copy_(y.mean(0))
    joint.rule.norm.running_var.copy_(y.var(0))


def _passes(task: Task) -> Iterator[tuple[Tensor, torch.Generator]]:
    rng = task.generator("histogram")
    for x in task.dataset.reference.split(BATCH):
        yield x.to(task.device), rng


def _losses(joint: Joint, task: Task) -> dict[str, float]:
    """The baseline's loss with each sample's own code and with another one's; the divergence of learnt noise."""
    sums = {"loss_true_code": 0.0, "loss_shuffled_code": 0.0, "noise_kl": 0.0}
    for k in range(PROBES):
        rng = task.generator("diagnostics", k)
        x, told = task.dataset.examples(BATCH, rng, task.device)
        beside = joint.beside(x, task.noise_for(x, rng), rng)
        sums["noise_kl"] += float(beside.noise_kl)
        for name, roll in (("loss_true_code", 0), ("loss_shuffled_code", 1)):
            condition = {key: code.roll(roll, 0) for key, code in beside.condition.items()} | told
            rng = task.generator("diagnostics", "loss", k)  # the same times for both
            sums[name] += float(task.loss(joint.model, x, beside.noise, rng, **condition))
    wanted = ["noise_kl"] * joint.spec["noise"] + ["loss_true_code", "loss_shuffled_code"] * (joint.rule is not None)
    return {name: sums[name] / PROBES for name in wanted}


def _size(encoder: nn.Module, x: Tensor) -> dict[str, float]:
    """Parameters, and MFLOP of one sample: what training pays beside the network."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        encoder(x)
    count = sum(p.numel() for p in encoder.parameters())
    return {"encoder_parameters": count, "encoder_mflop": counter.get_total_flops() / 1e6}
