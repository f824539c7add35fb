"""Pickles with the layout of EDM's: its modules' names, and random tensors.

A stand-in for `torch_utils.persistence` pickles an object as the source of its module and its state; unpickling it the
plain way runs that source, which writes a file.
"""

import pickle
import sys
import types

import numpy as np
import torch
from torch import nn

SOURCE = """
from pathlib import Path
Path({flag!r}).write_text("the source was run")
"""


def stand_ins():
    """The modules that EDM's pickles name: what `sys.modules` has to hold while one is written."""
    persistence, util = types.ModuleType("torch_utils.persistence"), types.ModuleType("dnnlib.util")

    def _reconstruct_persistent_obj(meta):
        exec(meta["module_src"], {})
        return dict(meta["state"])

    class EasyDict(dict):
        pass

    persistence._reconstruct_persistent_obj, util.EasyDict = _reconstruct_persistent_obj, EasyDict
    for module, value in ((persistence, _reconstruct_persistent_obj), (util, EasyDict)):
        value.__module__, value.__qualname__ = module.__name__, value.__name__
    packages = {name: types.ModuleType(name) for name in ("torch_utils", "dnnlib")}
    return {**packages, persistence.__name__: persistence, util.__name__: util}


def persistent(flag):
    """The base of what is pickled with its source, which writes `flag`."""

    class Persistent(nn.Module):
        def __init__(self, class_name, **attributes):
            super().__init__()
            self.class_name = class_name
            for name, value in attributes.items():
                setattr(self, name, value)

        def __reduce__(self):
            state = {name: value for name, value in self.__dict__.items() if name != "class_name"}
            meta = {"type": "class", "version": 6, "module_src": SOURCE.format(flag=str(flag))}
            meta |= {"class_name": self.class_name, "state": state}
            return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (meta,), None

    return Persistent


class Writer:
    """Networks with EDM's module names and random tensors."""

    def __init__(self, persistent):
        self.Persistent, self.rng = persistent, torch.Generator().manual_seed(0)

    def leaf(self, kind, *shape, bias=True, **buffers):
        leaf = self.Persistent(kind)
        leaf.weight = nn.Parameter(torch.randn(shape, generator=self.rng))
        leaf.bias = nn.Parameter(torch.randn(shape[0], generator=self.rng)) if bias else None
        for name, value in buffers.items():
            leaf.register_buffer(name, value)
        return leaf

    def conv(self, cin, cout, kernel=3, f=None):
        return self.leaf("Conv2d", cout, cin, kernel, kernel, resample_filter=f)

    def linear(self, cin, cout, bias=True):
        return self.leaf("Linear", cout, cin, bias=bias)

    def norm(self, channels):
        return self.leaf("GroupNorm", channels)

    def block(self, cin, cout, width, attention=False, adaptive=False, resized=None, projected=True):
        # NumPy's number is what EDM's constructor gets from np.sqrt.
        block = self.Persistent("UNetBlock", skip_scale=np.sqrt(0.5), num_heads=int(attention), _init_kwargs={})
        block.norm0, block.conv0 = self.norm(cin), self.conv(cin, cout, f=resized)
        block.affine = self.linear(width, cout * (1 + adaptive))
        block.norm1, block.conv1, block.skip = self.norm(cout), self.conv(cout, cout), None
        if cin != cout or (projected and resized is not None):
            block.skip = self.conv(cin, cout, 1, resized)
        elif resized is not None:
            block.skip = self.Persistent("Conv2d", weight=None, bias=None)
            block.skip.register_buffer("resample_filter", resized)
        if attention:
            block.norm2, block.qkv, block.proj = self.norm(cout), self.conv(cout, 3 * cout, 1), self.conv(cout, cout, 1)
        return block

    def network(self, kind, kwargs, enc, dec, noise, width, label=0, augment=0, **others):
        net = self.Persistent(kind, label_dropout=0, _init_args=(), _init_kwargs=kwargs)
        net.map_noise = self.Persistent("PositionalEmbedding", num_channels=noise)
        song = kind == "SongUNet"
        net.map_label = self.linear(label, noise if song else width, bias=song) if label else None
        net.map_augment = self.linear(augment, noise, bias=False) if augment else None
        net.map_layer0, net.map_layer1 = self.linear(noise, width), self.linear(width, width)
        net.enc, net.dec = nn.ModuleDict(enc), nn.ModuleDict(dec)
        for name, module in others.items():
            setattr(net, name, module)
        return net

    def song(self, maps=0, label=0, augment=0, **changed):
        """DDPM++ of 4 × (1, 2) channels with one block at 4 and at 2 pixels, attention at 4."""
        w, f = 16, torch.full((1, 1, 2, 2), 0.25)
        kwargs = {"img_resolution": 4, "in_channels": 3 + maps, "out_channels": 3, "label_dim": label}
        kwargs |= {"embedding_type": "positional", "encoder_type": "standard", "decoder_type": "standard"}
        kwargs |= {"channel_mult_noise": 1, "resample_filter": [1, 1], "model_channels": 4, "channel_mult": [1, 2]}
        kwargs |= {"num_blocks": 1, "attn_resolutions": [4], "augment_dim": augment, "dropout": 0.13} | changed
        enc = {
            "4x4_conv": self.conv(3 + maps, 4),
            "4x4_block0": self.block(4, 4, w, attention=True),
            "2x2_down": self.block(4, 4, w, resized=f),
            "2x2_block0": self.block(4, 8, w),
        }
        dec = {
            "2x2_in0": self.block(8, 8, w, attention=True),
            "2x2_in1": self.block(8, 8, w),
            "2x2_block0": self.block(16, 8, w),
            "2x2_block1": self.block(12, 8, w),
            "4x4_up": self.block(8, 8, w, resized=f),
            "4x4_block0": self.block(12, 4, w),
            "4x4_block1": self.block(8, 4, w, attention=True),
            "4x4_aux_norm": self.norm(4),
            "4x4_aux_conv": self.conv(4, 3),
        }
        return self.network("SongUNet", kwargs, enc, dec, 4, w, label, augment)

    def ncsnpp(self):
        """NCSN++ of 4 × (1, 1) channels: Fourier features, and a convolution of its own for the input at 2 pixels."""
        w, f = 16, torch.tensor([1.0, 3, 3, 1]).outer(torch.tensor([1.0, 3, 3, 1]))[None, None] / 64
        kwargs = {"img_resolution": 4, "in_channels": 3, "out_channels": 3, "label_dim": 0}
        kwargs |= {"embedding_type": "fourier", "encoder_type": "residual", "channel_mult_noise": 2}
        kwargs |= {"resample_filter": [1, 3, 3, 1], "model_channels": 4, "channel_mult": [1, 1], "num_blocks": 1}
        enc = {
            "4x4_conv": self.conv(3, 4),
            "4x4_block0": self.block(4, 4, w),
            "2x2_down": self.block(4, 4, w, resized=f),
            "2x2_aux_residual": self.conv(3, 4, f=f),
            "2x2_block0": self.block(4, 4, w),
        }
        dec = {
            "2x2_in0": self.block(4, 4, w, attention=True),
            "2x2_in1": self.block(4, 4, w),
            "2x2_block0": self.block(8, 4, w),
            "2x2_block1": self.block(8, 4, w),
            "4x4_up": self.block(4, 4, w, resized=f),
            "4x4_block0": self.block(8, 4, w),
            "4x4_block1": self.block(8, 4, w),
            "4x4_aux_norm": self.norm(4),
            "4x4_aux_conv": self.conv(4, 3),
        }
        net = self.network("SongUNet", kwargs, enc, dec, 8, w)
        net.map_noise = self.Persistent("FourierEmbedding")
        net.map_noise.register_buffer("freqs", torch.randn(4, generator=self.rng) * 16)
        return net

    def adm(self):
        """ADM of 64 × (1, 2) channels with one block at 4 and at 2 pixels, attention at 2, for 5 classes."""
        w, f = 256, torch.full((1, 1, 2, 2), 0.25)
        kwargs = {"img_resolution": 4, "in_channels": 3, "out_channels": 3, "label_dim": 5, "model_channels": 64}
        kwargs |= {"channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [2], "augment_dim": 9}

        def block(cin, cout, **options):
            return self.block(cin, cout, w, adaptive=True, projected=False, **options)

        enc = {
            "4x4_conv": self.conv(3, 64),
            "4x4_block0": block(64, 64),
            "2x2_down": block(64, 64, resized=f),
            "2x2_block0": block(64, 128, attention=True),
        }
        dec = {
            "2x2_in0": block(128, 128, attention=True),
            "2x2_in1": block(128, 128),
            "2x2_block0": block(256, 128, attention=True),
            "2x2_block1": block(192, 128, attention=True),
            "4x4_up": block(128, 128, resized=f),
            "4x4_block0": block(192, 64),
            "4x4_block1": block(128, 64),
        }
        out = {"out_norm": self.norm(64), "out_conv": self.conv(64, 3)}
        return self.network("DhariwalUNet", kwargs, enc, dec, 64, w, 5, 9, **out)

    def model(self, net, kind="EDMPrecond", **attributes):
        attributes = {"sigma_data": 0.5, "label_dim": 0, "use_fp16": False} | attributes
        return self.Persistent(
            kind, _init_args=(), _init_kwargs={"model_type": net.class_name}, **attributes, model=net
        )


def save(tmp_path, model, key="ema", **others):
    """A snapshot as EDM's training loop writes it."""
    content = {key: model, "loss_fn": None, "dataset_kwargs": sys.modules["dnnlib.util"].EasyDict(path="x"), **others}
    path = tmp_path / "network-snapshot.pkl"
    path.write_bytes(pickle.dumps(content))
    return path
