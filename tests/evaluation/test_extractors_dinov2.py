"""FD_DINOv2's features: dgm-eval's preprocessing bit for bit, and the forward pass of the DINOv2 repository."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from evaluation.extractors import EXTRACTORS, dinov2
from evaluation.extractors.dinov2 import preprocessed, resampled
from tests.evaluation import networks

timm = pytest.importorskip("timm")
SMALL = {"architecture": "vit_small_patch14_dinov2.lvd142m", "embed_dim": 48, "depth": 3, "num_heads": 4}


@pytest.fixture(scope="module")
def state():
    """A random ViT in the form of the published checkpoint: 37 × 37 positions and a mask token."""
    options = {k: v for k, v in SMALL.items() if k != "architecture"}
    net = timm.create_model(SMALL["architecture"], pretrained=False, num_classes=0, img_size=518, **options)
    state = networks.randomise(net).state_dict()
    assert state["pos_embed"].shape == (1, 1370, 48)
    return state | {"mask_token": torch.zeros(1, 48)}


@pytest.fixture(scope="module")
def weights(state, tmp_path_factory):
    return networks.save(state, tmp_path_factory.mktemp("weights") / "random-vit.pth")


@pytest.fixture(scope="module")
def images():
    noise = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32), dtype=np.uint8)
    return np.concatenate([networks.pictures(3, 0), noise])


def hub_forward(state, x, heads=SMALL["num_heads"]):
    """The class token of a DINOv2 ViT from its definition: pre-norm blocks with layer scale, then LayerNorm."""
    d = state["cls_token"].shape[-1]

    def norm(h, name):
        return F.layer_norm(h, (d,), state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-6)

    def linear(h, name):
        return h @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    patches = F.conv2d(x, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=14)
    h = torch.cat([state["cls_token"].expand(len(x), 1, d), patches.flatten(2).transpose(1, 2)], 1)
    grid = state["pos_embed"][0, 1:].T.reshape(1, d, 37, 37)
    grid = F.interpolate(grid, scale_factor=((16 + 0.1) / 37, (16 + 0.1) / 37), mode="bicubic")
    h = h + torch.cat([state["pos_embed"][:, :1], grid.flatten(2).transpose(1, 2)], 1)
    for i in range(SMALL["depth"]):
        q, k, v = linear(norm(h, f"blocks.{i}.norm1"), f"blocks.{i}.attn.qkv").chunk(3, -1)
        q, k, v = (part.unflatten(-1, (heads, d // heads)).transpose(1, 2) for part in (q, k, v))
        mixed = ((q @ k.transpose(-1, -2)) / (d // heads) ** 0.5).softmax(-1) @ v
        out = linear(mixed.transpose(1, 2).flatten(2), f"blocks.{i}.attn.proj")
        h = h + state[f"blocks.{i}.ls1.gamma"] * out
        hidden = F.gelu(linear(norm(h, f"blocks.{i}.norm2"), f"blocks.{i}.mlp.fc1"))
        h = h + state[f"blocks.{i}.ls2.gamma"] * linear(hidden, f"blocks.{i}.mlp.fc2")
    return norm(h, "norm")[:, 0]


def relative(a, b):
    return float(np.abs(a - b).max() / np.abs(b).max())


def test_preprocessing_equals_dgm_eval(images):
    transforms = pytest.importorskip("torchvision.transforms")
    theirs = transforms.Compose(
        [
            transforms.Resize((224, 224), interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    wide = np.random.default_rng(1).integers(0, 256, (2, 3, 300, 500), dtype=np.uint8)  # shrunk, and not square
    for batch in (images, wide):
        expected = torch.stack([theirs(Image.fromarray(u.transpose(1, 2, 0))) for u in batch])
        assert torch.equal(preprocessed(torch.from_numpy(batch)), expected)


def test_features_equal_the_forward_pass_of_the_dinov2_repository(state, weights, images):
    extractor = dinov2.load(*weights, **SMALL)
    features = extractor.features(images)
    expected = hub_forward(state, preprocessed(torch.from_numpy(images))).numpy()
    assert features.shape == (5, 48) == (5, extractor.dim)
    assert relative(features, expected) < 1e-5


def test_without_the_position_embedding_of_the_repository_features_differ(state, weights, images):
    options = {k: v for k, v in SMALL.items() if k != "architecture"}
    net = timm.create_model(SMALL["architecture"], pretrained=False, num_classes=0, img_size=224, **options)
    from timm.models.vision_transformer import checkpoint_filter_fn

    net.load_state_dict(checkpoint_filter_fn(dict(state), net))  # timm's own way to 16 × 16
    with torch.no_grad():
        plain = net.eval()(preprocessed(torch.from_numpy(images))).numpy()
    assert relative(plain, dinov2.load(*weights, **SMALL).features(images)) > 1e-3


def test_resampling_keeps_the_token_and_a_constant(state):
    embedding = state["pos_embed"].clone()
    embedding[:, 1:] = 0.25
    out = resampled(embedding)
    assert out.shape == (1, 257, 48) and torch.equal(out[:, 0], embedding[:, 0])
    torch.testing.assert_close(out[:, 1:], torch.full((1, 256, 48), 0.25))


def test_the_real_architecture_has_the_declared_dimension():
    with torch.device("meta"):
        net = timm.create_model(dinov2.ARCHITECTURE, pretrained=False, num_classes=0, img_size=224)
    assert net.num_features == EXTRACTORS["dinov2"].dim
    assert net.global_pool == "token" and isinstance(net.norm, torch.nn.LayerNorm)
