"""Real datasets decoded once: what is written, what is verified, what a batch of them is."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from made_images import decoded, encoded, pictures, write_parquet, write_zip

from fewstep import data
from fewstep.checkpoints import save_tensors
from fewstep.config import Source, make_study
from fewstep.dag import Dag
from fewstep.data.identity import identity
from fewstep.data.prepare import CHUNK, prepare
from fewstep.errors import CheckpointError, UserError
from fewstep.headers import load_arrays
from fewstep.images import from_uint8
from fewstep.keys import Keys
from fewstep.plan import Fitted, Plan
from fewstep.prepared import open_prepared, pixels_of, sha256_of_pixels

N = 2 * CHUNK + 40  # more than one block, and a rest
NAME, CONDITIONAL = "cifar10_jpeg75", "cifar10_jpeg75_cond"
LABELS = [(7 * i) % 10 for i in range(N)]


@pytest.fixture(scope="module")
def jpegs():
    return [encoded(picture, "JPEG", quality=75) for picture in pictures(N)]


@pytest.fixture(scope="module")
def pixels(jpegs):
    return np.stack([decoded(data) for data in jpegs])


@pytest.fixture(scope="module")
def source(tmp_path_factory, jpegs):
    file = tmp_path_factory.mktemp("source") / "train.parquet"
    return Source(parquet=str(write_parquet(file, jpegs, LABELS, rows=100)), count=N)


@pytest.fixture
def prepared(tmp_path, source):
    """The class-conditional dataset, prepared."""
    prepare(CONDITIONAL, source, tmp_path / f"{CONDITIONAL}.safetensors")
    return tmp_path / f"{CONDITIONAL}.safetensors"


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


# What is written.


def test_what_is_prepared_is_what_was_encoded(prepared, pixels, source):
    found = open_prepared(prepared, CONDITIONAL, whole=True)
    assert np.array_equal(found.pixels, pixels) and found.labels.tolist() == LABELS
    assert np.array_equal(np.load(pixels_of(prepared)), pixels)
    header, x = found.header, from_uint8(torch.from_numpy(pixels)).double()
    assert (header["dataset"], header["count"], header["shape"]) == (CONDITIONAL, N, [N, 3, 32, 32])
    assert header["images_of_label"] == [LABELS.count(k) for k in range(10)]
    assert header["sha256"] == sha256_of_pixels(pixels)
    assert list(header["source"]["sha256"]) == ["train.parquet"] and header["source"]["identity"] == identity(source)
    assert header["std"] == pytest.approx(float((x - x.mean(0)).square().mean().sqrt()), rel=1e-6)
    assert {file.name for file in prepared.parent.iterdir()} >= {prepared.name, pixels_of(prepared).name}
    assert not list(prepared.parent.glob("*.tmp")) + list(prepared.parent.glob(".*.tmp"))


def test_first_takes_the_first(tmp_path, source, pixels):
    some = source.model_copy(update={"first": 300})
    prepare(NAME, some, tmp_path / f"{NAME}.safetensors")
    found = open_prepared(tmp_path / f"{NAME}.safetensors", NAME)
    assert np.array_equal(found.pixels, pixels[:300]) and found.labels is None  # this one has no classes


def test_every_format_gives_the_same(tmp_path, jpegs, pixels, prepared):
    want = open_prepared(prepared, CONDITIONAL)
    names = [f"{label}/{i:05d}.jpg" for i, label in enumerate(LABELS)]
    for name, data_ in zip(names, jpegs, strict=True):
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(data_)
    labels = [[name, label] for name, label in zip(names, LABELS, strict=True)]
    zipped = write_zip(tmp_path / "a.zip", dict(zip(names, jpegs, strict=True)), labels)
    order = sorted(range(N), key=names.__getitem__)
    for source in (Source(folder=str(tmp_path / "folder"), count=N), Source(zip=str(zipped), count=N)):
        file = tmp_path / "other" / "x.safetensors"
        prepare(CONDITIONAL, source, file)
        found = open_prepared(file, CONDITIONAL, whole=True)
        assert np.array_equal(found.pixels, pixels[order])
        assert found.labels.tolist() == [LABELS[i] for i in order]
        assert found.header["std"] == want.header["std"]


def all_of(file: Path) -> tuple:
    """Header, labels and the very bytes of the pixels (safetensors writes a header's parts in any order)."""
    arrays, header = load_arrays(file)
    return header, arrays["labels"].tolist(), pixels_of(file).read_bytes()


def test_the_same_again_is_the_same(prepared, source):
    before = all_of(prepared)
    prepare(CONDITIONAL, source, prepared)
    assert all_of(prepared) == before


def test_bad_files_leave_what_was_there(prepared, tmp_path, jpegs):
    before = {file: file.read_bytes() for file in prepared.parent.iterdir()}
    late = [*jpegs[: CHUNK + 5], b"no image", *jpegs[CHUNK + 6 :]]
    other = Source(parquet=str(write_parquet(tmp_path.parent / "late.parquet", late, LABELS)), count=N)
    with pytest.raises(UserError, match=rf"late\.parquet: row {CHUNK + 5} is no image that can be read"):
        prepare(CONDITIONAL, other, prepared)
    far = Source(parquet=str(write_parquet(tmp_path.parent / "far.parquet", jpegs, [*LABELS[1:], 10])), count=N)
    with pytest.raises(UserError, match=rf"image {N - 1} has label 10; {CONDITIONAL} has classes 0 to 9"):
        prepare(CONDITIONAL, far, prepared)
    with pytest.raises(UserError, match="has SHA-256"):
        prepare(CONDITIONAL, far.model_copy(update={"sha256": {"far.parquet": "0" * 64}}), prepared)
    assert {file: file.read_bytes() for file in prepared.parent.iterdir()} == before


def test_a_folder_may_hold_any_name_and_no_loop(tmp_path, jpegs, pixels):
    folder, file = tmp_path / "set", tmp_path / "out" / f"{NAME}.safetensors"
    folder.mkdir()
    for i in range(2):
        Path(os.fsdecode(os.fsencode(folder) + b"/\xff%d.jpg" % i)).write_bytes(jpegs[i])  # no UTF-8
    prepare(NAME, Source(folder=str(folder), count=2), file)
    assert np.array_equal(open_prepared(file, NAME).pixels, pixels[:2])
    (folder / "a.jpg").write_bytes(jpegs[2])
    (folder / "b.jpg").symlink_to("b.jpg")
    with pytest.raises(UserError, match=r"b\.jpg can't be read \(.*\); put it back"):
        prepare(NAME, Source(folder=str(folder), count=4), file)


KILLED = """
import sys
from pathlib import Path
from fewstep.config import Source
from fewstep.data import prepare
whole = prepare._Tally.add
def slowly(self, block):
    whole(self, block)
    if self.n > prepare.CHUNK:
        print("well under way", flush=True)
        input()
prepare._Tally.add = slowly
prepare.prepare(sys.argv[1], Source.model_validate_json(sys.argv[2]), Path(sys.argv[3]))
"""


def test_a_killed_preparation_leaves_nothing_that_is_taken_for_whole(tmp_path, source, prepared):
    file = tmp_path / "killed" / prepared.name
    command = [sys.executable, "-c", KILLED, CONDITIONAL, source.model_dump_json(), str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as job:
        assert job.stdout.readline() == b"well under way\n"
        job.send_signal(signal.SIGKILL)
    with pytest.raises(CheckpointError, match="does not exist; prepare it first"):
        open_prepared(file, CONDITIONAL)
    assert len(list(file.parent.glob(".*.tmp"))) == 1 and not pixels_of(file).exists()
    prepare(CONDITIONAL, source, file)
    assert not list(file.parent.glob(".*.tmp"))
    assert all_of(file) == all_of(prepared)


def test_no_more_than_a_few_blocks_are_in_memory(tmp_path):
    """A folder of links to one image, which would decode to 123 MB."""
    (tmp_path / "one.png").write_bytes(encoded(pictures(1, 64)[0]))
    (tmp_path / "many").mkdir()
    count = 10_000
    for i in range(count):
        os.link(tmp_path / "one.png", tmp_path / "many" / f"{i:05d}.png")
    code = (
        "import resource, sys; from pathlib import Path; from fewstep.config import Source\n"
        "from fewstep.data.prepare import prepare; peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "import PIL.Image; before = peak()\n"
        "prepare('ffhq64', Source.model_validate_json(sys.argv[1]), Path(sys.argv[2]))\n"
        "print(peak() - before)"
    )
    source = Source(folder=str(tmp_path / "many"), count=count)
    command = [sys.executable, "-c", code, source.model_dump_json(), str(tmp_path / "ffhq64.safetensors")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert pixels_of(tmp_path / "ffhq64.safetensors").stat().st_size > 120e6
    assert int(done.stdout) < 60e3  # kB


# What is verified when it is opened.


def test_a_prepared_set_that_is_not_whole_is_refused(prepared):
    array = pixels_of(prepared)
    whole = array.read_bytes()
    again = rf"delete .* and prepare it again: python -m fewstep data --dataset {CONDITIONAL}"
    for content, complaint in (
        (whole[:-1], "is truncated or corrupt"),
        (whole[:60], "is truncated or corrupt"),
        (b"", "is truncated or corrupt"),
        (whole + b"0", "1 bytes, not uint8"),
    ):
        array.write_bytes(content)
        with pytest.raises(CheckpointError, match=rf"\.npy .*{complaint}.*{again}"):
            open_prepared(prepared, CONDITIONAL)
    np.save(array, np.zeros((N - 1, 3, 32, 32), np.uint8))
    with pytest.raises(CheckpointError, match=rf"uint8 \[{N - 1}, 3, 32, 32\], not uint8 \[{N}, 3"):
        open_prepared(prepared, CONDITIONAL)
    altered = bytearray(whole)
    altered[-1] ^= 1
    array.write_bytes(altered)
    open_prepared(prepared, CONDITIONAL)
    with pytest.raises(CheckpointError, match="fails its checksum"):
        open_prepared(prepared, CONDITIONAL, whole=True)
    array.unlink()
    with pytest.raises(CheckpointError, match=rf"\.npy does not exist; {again}"):
        open_prepared(prepared, CONDITIONAL)


def test_another_dataset_or_source_is_refused(prepared, source):
    with pytest.raises(CheckpointError, match=f"holds {CONDITIONAL}, not {NAME}"):
        open_prepared(prepared, NAME)
    other = identity(source.model_copy(update={"first": 5}))
    with pytest.raises(CheckpointError, match="prepared from another source than the study's"):
        data.load(CONDITIONAL, prepared, source=other)
    data.load(CONDITIONAL, prepared, source=json.loads(json.dumps(identity(source))))
    with pytest.raises(UserError, match="python -m fewstep data --dataset cifar10"):
        data.load("cifar10")


# The dataset.


def test_the_images_look_like_a_tensor(prepared, pixels):
    dataset, x = data.load(CONDITIONAL, prepared), from_uint8(torch.from_numpy(pixels))
    reference = dataset.reference
    assert reference.shape == x.shape and len(reference) == N
    for index in (3, slice(5, 9), slice(None, None, 97), torch.tensor([9, 1, 1]), [4, 2], torch.arange(N) % 50 == 0):
        assert torch.equal(reference[index], x[index])
    assert torch.equal(torch.cat(list(reference.split(100))), x)
    assert (reference.mean(0) - x.double().mean(0)).abs().max() < 1e-6
    assert dataset.std == pytest.approx(float((x - x.mean(0)).square().mean().sqrt()), rel=1e-5)
    mean = reference.mean(0)
    mean.zero_()  # a caller's own
    reference.array = None  # not gone through again
    assert (reference.mean(0) - x.double().mean(0)).abs().max() < 1e-6
    reference = (dataset := data.load(CONDITIONAL, prepared)).reference
    assert torch.equal(dataset.subset(N), x)
    some = dataset.subset(50)
    assert len(some) == 50 and torch.equal(some, dataset.subset(50))
    assert len({row.numpy().tobytes() for row in some} & {row.numpy().tobytes() for row in x}) == 50


def test_examples_are_what_draw_gives_with_their_labels(prepared, pixels):
    dataset = data.load(CONDITIONAL, prepared)
    x, told = dataset.examples(500, rng())
    assert torch.equal(x, dataset.draw(500, rng())) and list(told) == ["label"]
    assert told["label"].shape == (500, 10) and told["label"].sum(1).eq(1).all()
    of = {image.tobytes(): label for image, label in zip(pixels, LABELS, strict=True)}
    assert len(of) == N
    u = (x * 127.5 + 127.5).round().to(torch.uint8).numpy()
    assert [of[image.tobytes()] for image in u] == told["label"].argmax(1).tolist()


def test_half_of_the_images_are_mirrored(prepared):
    plain, mirrored = (data.load(CONDITIONAL, prepared, flip=flip) for flip in (False, True))
    x, y = plain.draw(2000, rng()), mirrored.draw(2000, rng())
    same, other = (y == x).flatten(1).all(1), (y == x.flip(3)).flatten(1).all(1)
    assert (same ^ other).all()
    assert abs(float(other.float().mean()) - 0.5) < 0.05
    assert torch.equal(mirrored.examples(2000, rng())[0], y)


def test_augmentation_is_told_and_draw_knows_none(prepared):
    dataset = data.load(CONDITIONAL, prepared, augment=0.12)
    x, told = dataset.examples(300, rng())
    plain = data.load(CONDITIONAL, prepared).draw(300, rng())
    untouched = told["augment"].eq(0).all(1)
    assert 30 < untouched.sum() < 150
    assert torch.equal(x[untouched], plain[untouched]) and (x != plain).flatten(1).any(1)[~untouched].all()
    assert torch.equal(dataset.draw(300, rng()), plain)


def test_built_in_sets_ignore_the_file_and_digits_can_be_mirrored(prepared):
    digits, mirrored = data.load("digits", prepared), data.load("digits", flip=True)
    assert torch.equal(digits.reference, data.load("digits").reference) and digits.labels is None
    drawn = digits.draw(100, rng())
    x, told = digits.examples(100, rng())
    assert torch.equal(x, drawn) and told == {}
    y = mirrored.draw(100, rng())
    assert ((y == drawn).flatten(1).all(1) | (y == drawn.flip(3)).flatten(1).all(1)).all() and not torch.equal(y, drawn)
    assert digits.subset(10**6) is not None and torch.equal(digits.subset(10**6), digits.reference)
    with pytest.raises(UserError, match=r"datasets\.moons: flip and augment change images"):
        data.load("moons", flip=True)


# Jobs that depend on it.


def test_another_source_mirroring_or_augmentation_reruns_what_trains(source, tmp_path, jpegs):
    fitted = Fitted(NAME, 0, "rf")

    def keys(**options):
        section = {"baselines": ["rf"], "accelerators": [], "solvers": ["euler"], "controls": ["data"], "nfe": [1]}
        section |= {"net": {"kind": "unet"}, "source": source.model_dump(exclude_none=True)} | options
        plan = Plan(make_study({"study": "t", "datasets": {NAME: section}}))
        return [Keys(plan).fit(fitted), *(Keys(plan).sample(entrant) for entrant in plan.entrants)]

    plain = keys()
    assert keys() == plain
    for options in ({"flip": True}, {"augment": 0.1}, {"source": {"first": 9, "parquet": "a.parquet"}}):
        assert all(a != b for a, b in zip(keys(**options), plain, strict=True)), options
    assert keys(source={"parquet": "elsewhere.parquet"}) == plain, "where the files lie is a matter of the `data` step"


def test_another_file_prepares_anew(tmp_path, jpegs):
    file = write_parquet(tmp_path / "a.parquet", jpegs[:20])
    section = {"source": {"parquet": str(file), "count": 20}, "net": {"kind": "unet"}, "baselines": ["rf"]}
    section |= {"accelerators": [], "solvers": ["euler"], "controls": [], "nfe": [1]}

    def key(**options):
        content = {"study": "t", "results": str(tmp_path), "datasets": {NAME: section | options, "digits": {}}}
        dag = Dag(content)
        return [dag.data_key(type("W", (), {"dataset": name})) for name in (NAME, "digits")]

    before = key()
    assert key() == before and key(flip=True) == before
    time.sleep(0.01)
    write_parquet(file, jpegs[:19] + jpegs[20:21])
    real, digits = key()
    assert real != before[0] and digits == before[1]


def test_statistics_see_the_pixels_themselves(prepared, pixels):
    from evaluation.stages.statistics import _images

    with _images(prepared) as (known, images):
        assert np.array_equal(images(), pixels) and images().dtype == np.uint8
        assert known == {"dataset": CONDITIONAL, "sha256": sha256_of_pixels(pixels)}
    built_in = prepared.with_name("digits.safetensors")
    save_tensors(built_in, {"x": data.load("digits").reference}, {"dataset": "digits"})
    with _images(built_in) as (known, images):
        assert known["dataset"] == "digits" and images().shape == (1797, 1, 8, 8)
