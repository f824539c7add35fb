"""EDM's released networks (Karras et al., arXiv 2206.00364), and MAC's, which are pickled alike (arXiv 2404.14161).

The preconditioning becomes a parametrisation of `fewstep.model.Model`, the constructor's arguments become options of
our net, and the tensors get the names that it has. What has no exact counterpart is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fewstep.errors import CheckpointError, UserError, one_line
from fewstep.nets import with_defaults
from fewstep.pretrained.checkpoint import Checkpoint
from fewstep.pretrained.edm_names import renamed
from fewstep.pretrained.inert import Shell, load

# The parameters of both networks' constructors that may stand in order, and those that an exact reading doesn't need.
POSITIONAL = ("img_resolution", "in_channels", "out_channels", "label_dim", "augment_dim")
UNUSED = {"img_resolution", "in_channels", "out_channels", "label_dropout"}
OURS = {
    "model_channels": "channels",
    "channel_mult": "multipliers",
    "channel_mult_emb": "embedding_multiplier",
    "num_blocks": "blocks",
    "attn_resolutions": "attention",
    "dropout": "dropout",
    "label_dim": "label_dim",
    "augment_dim": "augment_dim",
}
OURS_SONG = {"embedding_type": "embedding", "encoder_type": "encoder", "resample_filter": "resample_filter"}
# EDM's defaults where they are not ours.
DEFAULTS = {
    "song": {"multipliers": [1, 2, 2, 2], "dropout": 0.10},
    "adm": {},
}
KINDS = {"SongUNet": "song", "DhariwalUNet": "adm"}


def read(path: str | Path) -> Checkpoint:
    """The averaged network of a pickle in EDM's or MAC's layout.

    Raises UserError where our networks cannot be the same function, or the pickle asks for code that is not known, and
    CheckpointError if it is truncated or in another layout.
    """
    content = load(path)
    try:
        return _checkpoint(content, path)
    except (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is not in EDM's layout ({one_line(error)}); give EDM's own pickle") from None


def _checkpoint(content: Any, path: str | Path) -> Checkpoint:
    model = _model(content, path)
    net = model.part("model")
    if not isinstance(net, Shell) or net.class_name not in KINDS:
        name = net.class_name if isinstance(net, Shell) else "nothing"
        raise UserError(f"{path} holds {name} as its network; {' and '.join(KINDS)} can be read")
    card, arguments = _card(model, path), _arguments(net, path)
    channels, side = arguments["out_channels"], arguments["img_resolution"]
    if arguments["in_channels"] != channels * (2 if card.get("multidimensional") else 1):
        told = f"{arguments['in_channels']} to {channels} channels"
        raise UserError(f"{path}: {model.class_name} from {told} is not known here")
    card |= {"net": _options(net.class_name, arguments, path), "shape": [channels, side, side]}
    tensors = net.tensors()
    if (count := sum(tensor.numel() for tensor in tensors.values())) > (size := Path(path).stat().st_size):
        raise ValueError(f"{count} numbers of {size} bytes")  # some share theirs; as float32 they would not
    return Checkpoint(card, renamed({name: tensor.float() for name, tensor in tensors.items()}))


def _model(content: Any, path: str | Path) -> Shell:
    """The preconditioned network: under "ema" in EDM's pickles, the generator's V under "G_ema" in MAC's."""
    content = content if isinstance(content, dict) else {"ema": content}
    model = content.get("ema")
    if isinstance(generator := content.get("G_ema"), Shell):
        model = generator.part("V")
    if not isinstance(model, Shell):
        names = ", ".join(name[:40] for name in content if isinstance(name, str))[:200] or "nothing else"
        raise UserError(f"{path} holds no network of EDM's under `ema`; there is {names}")
    return model


def _card(model: Shell, path: str | Path) -> dict[str, Any]:
    """path, parametrisation and sigma_data of a preconditioning."""
    kind = model.class_name
    if kind in ("EDMPrecond", "EDMgammaPrecond"):
        card = {"path": "edm", "parametrisation": "denoiser", "sigma_data": float(model.part("sigma_data"))}
        # MAC's network sees ln(gamma) / 4 of every pixel beside the image, gamma being sigma where all are alike.
        return card | ({"multidimensional": True} if kind == "EDMgammaPrecond" else {})
    if kind == "VPPrecond":
        schedule = {name: _plain(model.part(name)) for name in ("beta_d", "beta_min", "M")}
        if schedule != {"beta_d": 19.9, "beta_min": 0.1, "M": 1000}:
            raise UserError(f"{path}: VPPrecond with {schedule} is not the path vp (beta_d 19.9, beta_min 0.1, M 1000)")
        # D(x; sigma) = x - sigma F(x / sqrt(1 + sigma^2), 999 t), so F is the noise at alpha x and t.
        return {"path": "vp", "parametrisation": "eps", "sigma_data": 0.5}
    why = {
        "VEPrecond": "its network sees x unscaled and is told ln(sigma / 2)",
        "iDDPMPrecond": "its network also predicts variances and knows 1000 noise levels only",
    }.get(kind, "it is not known here")
    raise UserError(f"{path}: {kind} has no counterpart ({why}); EDMPrecond, EDMgammaPrecond and VPPrecond can be read")


def _arguments(net: Shell, path: str | Path) -> dict[str, Any]:
    """What a network's constructor was called with."""
    given = dict(zip(POSITIONAL, net.part("_init_args") or (), strict=False)) | dict(net.part("_init_kwargs") or {})
    if missing := [name for name in POSITIONAL[:3] if name not in given]:
        raise UserError(f"{path} doesn't tell {', '.join(missing)} of its {net.class_name}; give EDM's own pickle")
    return {_plain(name): _plain(value) for name, value in given.items()}


def _plain(value: Any) -> Any:
    """A number, a short text or list of such, which alone can be compared and shown; ValueError for anything else."""
    short = isinstance(value, str | tuple | list) and len(value) <= 100
    numbers = short and all(isinstance(part, str | int | float | None) for part in value)
    if not numbers and (isinstance(value, str) or not isinstance(value, int | float | None)):
        raise ValueError("an argument is no plain value")
    return value


def _options(kind: str, arguments: dict[str, Any], path: str | Path) -> dict[str, Any]:
    """Our net's options from EDM's. Raises UserError for an argument that our nets lack."""
    ours = {"kind": KINDS[kind]}
    names = OURS | (OURS_SONG if ours["kind"] == "song" else {})
    given = {names[name]: value for name, value in arguments.items() if name in names}
    rest = {name: value for name, value in arguments.items() if name not in names and name not in UNUSED}
    options = with_defaults(ours | DEFAULTS[ours["kind"]]) | given
    fixed = {}
    if ours["kind"] == "song":
        fixed = {"channel_mult_noise": 2 if options["embedding"] == "fourier" else 1, "decoder_type": "standard"}
        rest = {"channel_mult_noise": 1, "decoder_type": "standard"} | rest
        if options["encoder"] not in ("standard", "residual"):
            raise UserError(f"{path}: {kind} with the encoder {options['encoder']!r} is not known here")
    for name, value in rest.items():
        if name not in fixed or value != fixed[name]:
            raise UserError(f"{path}: {kind} with {name} = {value!r} is not known here")
    kept = (*names.values(), "kind")
    return {name: list(v) if isinstance(v, tuple | list) else v for name, v in options.items() if name in kept}
