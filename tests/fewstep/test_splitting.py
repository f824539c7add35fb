"""Networks that see a batch in parts give what they give for the whole: over processes, in microbatches, compiled."""

import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from fewstep import distributed
from fewstep.config import Compute
from fewstep.nets import build
from fewstep.nets.rowwise import Rowwise
from fewstep.splitting import Split, splitting


def test_one_process_splits_nothing():
    x = torch.zeros(3, 2)
    with splitting(Compute(), torch.device("cpu")):
        assert Rowwise.how is None and distributed.gather(x) is x and distributed.size() == 1
    with splitting(Compute(microbatch=2), torch.device("cpu")):
        assert Rowwise.how is not None
    assert Rowwise.how is None


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("microbatch", [None, 2])
def test_any_batch_is_split_over_any_number_of_processes(monkeypatch, size, microbatch):
    """Each process's rows, put together here in place of the network between them."""
    torch.manual_seed(0)
    net = build({"kind": "mlp", "width": 32, "depth": 2}, (2,))
    torch.nn.init.normal_(net.out.weight)
    seen = []
    net.hidden[0].register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    monkeypatch.setattr(distributed, "size", lambda: size)
    for rows in (1, 2, 3, 4, 7):
        x, c = torch.randn(rows, 2), torch.rand(rows)
        whole, shares, split = net(x, c), [], Split(microbatch)
        seen.clear()
        for rank in range(size):
            monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
            monkeypatch.setattr(distributed, "gather", lambda part, shares=shares: shares.append(part) or part)
            split(net, x, c)
        torch.testing.assert_close(torch.cat(shares)[:rows], whole)
        assert sum(seen) == size * -(-rows // size) and max(seen) <= min(microbatch or rows, -(-rows // size))


class Peak(TorchDispatchMode):
    """Most bytes of tensors made inside that were alive at a time."""

    def __init__(self):
        super().__init__()
        self.now, self.most, self.known = 0, 0, {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_iter(out):
            storage = tensor.untyped_storage() if isinstance(tensor, torch.Tensor) else None
            if storage is not None and storage._cdata not in self.known:
                self.known[storage._cdata] = storage.nbytes()
                self.now += storage.nbytes()
                self.most = max(self.most, self.now)
                weakref.finalize(storage, self._gone, storage._cdata)
        return out

    def _gone(self, storage):
        self.now -= self.known.pop(storage, 0)


def test_microbatches_take_less_memory():
    """Activations of 4 of 32 rows at a time; weights, gradients and the batch itself stay."""
    torch.manual_seed(0)
    net, x = build({"kind": "unet", "channels": 8, "blocks": 2}, (1, 16, 16)), torch.randn(32, 1, 16, 16)

    def peak(microbatch):
        net.zero_grad(set_to_none=True)
        with splitting(Compute(microbatch=microbatch), torch.device("cpu")), Peak() as mode:
            net(x, x[:, 0, 0, 0]).square().mean().backward()
        return mode.most, net.up.out.weight.grad.clone()

    (whole, gradient), (parts, same) = peak(None), peak(4)
    assert parts < whole / 3
    torch.testing.assert_close(same, gradient)


def test_a_network_that_can_not_be_compiled_runs_as_it_is(monkeypatch, capsys):
    def refuses(*_):
        raise RuntimeError("no compiler\nhere")

    monkeypatch.setattr(torch, "compile", lambda forward: refuses)
    net, x, split = build({"kind": "mlp"}, (2,)), torch.randn(4, 2), Split(compile=True)
    for _ in range(2):
        torch.testing.assert_close(split(net, x, torch.rand(4)), torch.zeros(4, 2))  # it starts at zero
    assert capsys.readouterr().err.count("torch.compile failed, so the network runs as it is: no compiler here") == 1
    with pytest.raises(ValueError, match="without label_dim"):
        split(net, x, torch.rand(4), label=torch.ones(4, 3))
