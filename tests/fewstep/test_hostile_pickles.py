"""Pickles that are made to harm: what they can reach stays as it is, and what they claim costs nothing."""

import io
import pickle
import sys
import tracemalloc

import pytest
import torch
from edm_pickles import Writer, persistent, save, stand_ins

from fewstep import pretrained
from fewstep.errors import CheckpointError, UserError
from fewstep.pretrained import inert
from fewstep.pretrained.edm import read

HUGE = 1 << 45  # bytes or numbers, which no machine has


def name(full: str) -> bytes:
    """The opcode that asks for a class or function."""
    module, _, last = full.rpartition(".")
    return b"c" + module.encode() + b"\n" + last.encode() + b"\n"


def plain(value) -> bytes:
    """The opcodes of a plain value, without the frame and the memo."""
    if isinstance(value, tuple):
        return b"(" + b"".join(map(plain, value)) + b"t"
    return pickle.dumps(value, protocol=2)[2:-1].replace(b"q\x00", b"")


def call(function: str, *arguments: bytes) -> bytes:
    return name(function) + b"(" + b"".join(arguments) + b"tR"


def stored(saved, opcodes: bytes | None = None) -> bytes:
    """A storage within a pickle, as a file of torch's own; `opcodes` in place of what that file says was saved."""
    stream = io.BytesIO()
    torch.save(saved, stream, _use_new_zipfile_serialization=False)
    data = stream.getvalue()
    if opcodes is not None:
        stream.seek(0)
        for _ in range(3):  # magic number, version, system
            pickle.load(stream)
        data = data[: stream.tell()] + b"\x80\x02" + opcodes + b"." + pickle.dumps([], protocol=2)
    return call("torch.storage._load_from_bytes", plain_bytes(data))


def plain_bytes(data: bytes) -> bytes:
    return b"B" + len(data).to_bytes(4, "little") + data


def storage_of(tensor: torch.Tensor) -> bytes:
    return stored(tensor._typed_storage())


def tensor(storage: bytes, offset: int, size: tuple, stride: tuple) -> bytes:
    return call("torch._utils._rebuild_tensor_v2", storage, *map(plain, (offset, size, stride, False, None)))


FOUR = storage_of(torch.arange(4.0))


def file_of(tmp_path, opcodes: bytes):
    path = tmp_path / "net.pkl"
    path.write_bytes(b"\x80\x04" + opcodes + b".")
    return path


def refused(path, match: str = "", how=inert.load, error=CheckpointError):
    with pytest.raises(error, match=match) as caught:
        how(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


# attributes

REACHED = {
    **{known: name(known) for known in inert.KNOWN},
    "a module": name("torch.nn.modules.container.Sequential") + b")\x81",
    "a persistent object": call(
        "torch_utils.persistence._reconstruct_persistent_obj",
        b"}(" + plain("class_name") + plain("SongUNet") + plain("state") + b"}u",
    ),
    "a dictionary": call("collections.OrderedDict"),
    "EDM's dictionary": name("dnnlib.util.EasyDict") + b")\x81",
    "a set": call("builtins.set"),
    "a storage": FOUR,
    "a tensor": tensor(FOUR, 0, (4,), (1,)),
    "a parameter": call("torch._utils._rebuild_parameter", tensor(FOUR, 0, (4,), (1,)), b"\x88", b"N"),
    "a dtype": call("numpy.dtype", plain("f8"), b"\x89", b"\x88"),
    "a number": call("numpy.core.multiarray.scalar", call("numpy.dtype", plain("f8")), plain_bytes(bytes(8))),
}
STATES = {
    "a dictionary": b"}" + plain("mark") + b"K\x01s",
    "slots": b"N}" + plain("mark") + b"K\x01s\x86",
    "a dunder": b"N}" + plain("__defaults__") + b"K\x01\x85s\x86",
    "a tensor's old form": b"(" + FOUR + plain(0) + plain((9,)) + plain((1,)) + b"t",
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("what", REACHED)
def test_nothing_that_a_pickle_reaches_takes_attributes(tmp_path, what, state):
    """Refused or dropped: neither the object, nor its class, nor a function of ours has what the pickle set."""
    before = {function: function.__defaults__ for function in vars(inert).values() if hasattr(function, "__defaults__")}
    try:
        made = inert.load(file_of(tmp_path, REACHED[what] + STATES[state] + b"b"))
    except CheckpointError:
        made = None
    for thing in (made, type(made), *inert.KNOWN.values(), *map(type, inert.KNOWN.values()), inert.Shell):
        assert not hasattr(thing, "mark")
    assert {function: function.__defaults__ for function in before} == before
    if isinstance(made, inert._Array):
        assert made.tensor.numel() == 4


@pytest.mark.parametrize("what", REACHED)
def test_each_of_these_can_be_reached(tmp_path, what):
    inert.load(file_of(tmp_path, REACHED[what]))


def test_a_tensor_s_numbers_are_its_storage_s(tmp_path):
    found = inert.load(file_of(tmp_path, tensor(storage_of(torch.arange(12.0)), 2, (3, 2), (1, 4)))).tensor
    assert torch.equal(found, torch.arange(12.0).as_strided((3, 2), (1, 4), 2))
    assert inert.load(file_of(tmp_path, tensor(FOUR, 3, (), ()))).tensor.item() == 3


# storages


@pytest.mark.parametrize(
    "what", ["torch.storage.UntypedStorage", "torch._utils._rebuild_tensor", "torch.Tensor", "builtins.bytearray"]
)
def test_a_storage_s_bytes_give_numbers_and_nothing_else(tmp_path, what):
    """torch's own unpickler would hand out these classes and functions, for the outer pickle to change."""
    held = stored(0, name(what))
    refused(file_of(tmp_path, held), "something else in place of a storage")
    before = torch.storage.UntypedStorage.nbytes
    refused(file_of(tmp_path, held + b"N}" + plain("nbytes") + name("builtins.set") + b"s\x86b"), "something else")
    assert torch.storage.UntypedStorage.nbytes is before


def test_a_storage_s_bytes_call_nothing(tmp_path):
    path = file_of(tmp_path, stored(0, call("builtins.bytearray", plain(1 << 28))))
    tracemalloc.start()
    try:
        refused(path, "something else in place of a storage")
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()
    stream = io.BytesIO()
    torch.save(torch.zeros(4)._typed_storage(), stream)  # a zip, which no storage within a pickle is
    refused(file_of(tmp_path, call("torch.storage._load_from_bytes", plain_bytes(stream.getvalue()))), "something else")


@pytest.mark.parametrize("size, stride", [((1 << 34,), (0,)), ((4, 1 << 34), (1, 0)), ((5,), (0,)), ((3, 3), (1, 0))])
def test_no_tensor_has_more_numbers_than_its_storage(tmp_path, size, stride):
    refused(file_of(tmp_path, tensor(FOUR, 0, size, stride)), "more numbers than its storage")


@pytest.mark.parametrize("offset, size, stride", [(1, (4,), (1,)), (0, (2,), (4,)), (-1, (2,), (1,)), (3, (2,), (-1,))])
def test_no_tensor_reaches_beyond_its_storage(tmp_path, offset, size, stride):
    refused(file_of(tmp_path, tensor(FOUR, offset, size, stride)), "beyond its storage")


def test_more_memory_than_there_is_becomes_a_line(tmp_path):
    refused(file_of(tmp_path, b"\x8e" + HUGE.to_bytes(8, "little")), "MemoryError")


# networks


@pytest.fixture
def writer(monkeypatch, tmp_path):
    for module_name, module in stand_ins().items():
        monkeypatch.setitem(sys.modules, module_name, module)
    return Writer(persistent(tmp_path / "flag"))


def test_a_network_is_as_large_as_its_tensors_and_not_as_it_says(tmp_path, writer):
    """A net of a million channels could be built on no machine; its shapes are compared all the same."""
    inspect = lambda path: pretrained.inspect(str(path), None, "edm", (3, 4, 4), 0)  # noqa: E731
    path = save(tmp_path, writer.model(writer.song(model_channels=1 << 20)))
    refused(
        path, r"embed.mlp.0.weight has the shape \[16, 4\] and should have \[4194304, 1048576\]", inspect, UserError
    )
    path = save(tmp_path, writer.model(writer.song(num_blocks=10**9)))
    refused(path, "2000000000 layers need more than", inspect, UserError)
    path = save(tmp_path, writer.model(writer.song(model_channels=1 << 62)))
    refused(path, "does not hold a network's weights", inspect, UserError)


def test_what_stands_at_two_places_is_refused(tmp_path, writer):
    """27 modules, each twice in the next, have 2^27 names."""
    module = writer.linear(2, 2)
    for _ in range(27):
        module = writer.Persistent("Pair", a=module, b=module)
    net = writer.song()
    net.enc["shared"] = module
    refused(save(tmp_path, writer.model(net)), "is also elsewhere", read)


def test_tensors_of_one_storage_do_not_add_up_to_more_than_the_file(tmp_path, writer):
    """As float32 each would have its own memory."""
    net, shared = writer.song(), torch.zeros(1 << 12, dtype=torch.float16)
    for i in range(1000):
        net.enc.register_buffer(f"b{i}", shared)
    refused(save(tmp_path, writer.model(net)), r"\d+ numbers of \d+ bytes", read)


def test_an_argument_that_cannot_be_shown_is_refused(tmp_path, writer):
    """Printed, 40 lists, each twice in the next, would be 2^40 words."""
    nested = ["x"]
    for _ in range(40):
        nested = [nested, nested]
    for options in ({"unknown": nested}, {"dropout": nested}, {"in_channels": nested}, {"unknown": "x" * 1000}):
        refused(save(tmp_path, writer.model(writer.song(**options))), "no plain value", read)
    schedule = {"beta_d": nested, "beta_min": 0.1, "M": 1000}
    refused(save(tmp_path, writer.model(writer.song(), "VPPrecond", **schedule)), "no plain value", read)
    refused(save(tmp_path, writer.model(writer.song(), "My\nPrecond")), "no word")
