"""Files of real datasets: read as they are published, refused in one line where they can't be right."""

import hashlib
import io
import os
import pickle
import shutil
import struct
import tarfile
import zipfile
import zlib
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from made_images import decoded, encoded, pictures, write_batches, write_parquet, write_zip

from fewstep.config import Source
from fewstep.data.identity import identity
from fewstep.data.sources import cifar10, inspect, open_source
from fewstep.data.sources.opened import decode
from fewstep.errors import UserError
from fewstep.headers import save_arrays

SHAPE = (3, 32, 32)
N = 20
LABELS = [(3 * i) % 10 for i in range(N)]


@pytest.fixture(scope="module")
def images():
    return pictures(N)


@pytest.fixture(scope="module")
def jpegs(images):
    return [encoded(picture, "JPEG", quality=75) for picture in images]


@pytest.fixture(scope="module")
def pngs(images):
    return [encoded(picture) for picture in images]


def everything(**source):
    """All images and labels of a source."""
    opened = open_source(Source(**source))
    if opened.decoded:
        pixels = [array for _, array in opened.decoded()]
    else:
        pixels = [decode(name, data, SHAPE) for name, data in opened.encoded()]
    assert len(pixels) == opened.count
    return np.stack(pixels), opened.labels() if opened.labels else None


def refused(match, name="cifar10_jpeg75", first=None, **source):
    """Inspection says so, in one line."""
    with pytest.raises(UserError, match=match) as caught:
        inspect(Source(**source, **({} if "count" in source else {"first": first or 1})), name)
    assert "\n" not in str(caught.value)


# Parquet.


@pytest.mark.parametrize("column", ["img", "image"])
def test_parquet_is_read_in_order_over_row_groups_and_files(tmp_path, jpegs, column):
    files = [write_parquet(tmp_path / f"{k}.parquet", jpegs[k::2], LABELS[k::2], column) for k in (1, 0)]
    pixels, labels = everything(parquet=[str(file) for file in files])
    order = [*range(1, N, 2), *range(0, N, 2)]
    assert np.array_equal(pixels, np.stack([decoded(jpegs[i]) for i in order]))
    assert labels.dtype == np.int64 and labels.tolist() == [LABELS[i] for i in order]


def test_parquet_that_is_right_passes(tmp_path, jpegs):
    file = write_parquet(tmp_path / "a.parquet", jpegs, LABELS)
    sha256 = {"a.parquet": hashlib.sha256(file.read_bytes()).hexdigest()}
    inspect(Source(parquet=str(file), count=N, sha256=sha256), "cifar10_jpeg75_cond")


def test_broken_parquet_is_refused(tmp_path, jpegs):
    file = write_parquet(tmp_path / "a.parquet", jpegs, LABELS)
    whole = file.read_bytes()
    file.write_bytes(whole[:-100])
    refused(r"a\.parquet is truncated or no parquet .*fetch it again", parquet=str(file))
    file.write_bytes(b"")
    refused("truncated or no parquet", parquet=str(file))
    refused("b.parquet does not exist", parquet=str(tmp_path / "b.parquet"))


def test_parquet_without_images_or_labels(tmp_path, jpegs):
    file = write_parquet(tmp_path / "a.parquet", [None, *jpegs])
    refused("row 0 holds no image, only a path", parquet=str(file))
    file = write_parquet(tmp_path / "a.parquet", jpegs)
    inspect(Source(parquet=str(file), count=N), "cifar10_jpeg75")
    refused("no labels, and cifar10_jpeg75_cond is class-cond.*choose cifar10_jpeg75,", "cifar10_jpeg75_cond", 5,
            parquet=str(file))  # fmt: skip
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"x": [1], "label": [1]}), file)
    refused(r"no column of images .*only x \(int64\), label", parquet=str(file))
    pq.write_table(pa.table({"image": [{"bytes": "text", "path": "a.png"}]}), file)
    refused(r"no column of images .*only image \(struct<bytes: string", parquet=str(file))


def test_of_several_columns_of_images_the_usual_name_counts(tmp_path, jpegs):
    import pyarrow as pa
    import pyarrow.parquet as pq

    def written(*names):
        columns = [pa.array([{"bytes": data} for data in jpegs[k:] + jpegs[:k]]) for k in range(len(names))]
        pq.write_table(pa.table(columns, names=names), tmp_path / "a.parquet")
        return str(tmp_path / "a.parquet")

    for usual in ("image", "img"):
        want = np.stack([decoded(data) for data in jpegs[1:] + jpegs[:1]])
        assert np.array_equal(everything(parquet=written("mask", usual, "depth"))[0], want)
    for names in (("image", "img"), ("a", "b"), ("image", "image")):
        refused(f"several columns of images: {names[0]}, {names[1]}; leave one", parquet=written(*names))


@pytest.mark.parametrize(
    "labels, complaint",
    [
        ([1] * (N - 1) + [10], "image 19 has label 10; cifar10_cond has classes 0 to 9"),
        ([1] * (N - 1) + [-1], "image 19 has label -1"),
        ([1] * (N - 1) + [None], "column label holds other than whole numbers"),
        (["cat"] * N, "column label holds other than whole numbers"),
        ([1.0] * N, "column label holds other than whole numbers"),
        (np.full(N, 2**64 - 1, np.uint64), "column label holds other than whole numbers"),
    ],
)
def test_labels_of_a_parquet_are_looked_at_before_work_starts(tmp_path, jpegs, labels, complaint):
    file = str(write_parquet(tmp_path / "a.parquet", jpegs, labels))
    refused(complaint, "cifar10_cond", parquet=file, count=N)
    inspect(Source(parquet=file, count=N), "cifar10")  # which has no classes


@pytest.mark.parametrize("dtype", [np.uint64, np.uint8, np.int32])
def test_labels_may_be_whole_numbers_of_any_size_that_fit(tmp_path, jpegs, dtype):
    file = str(write_parquet(tmp_path / "a.parquet", jpegs, np.array(LABELS, dtype)))
    inspect(Source(parquet=file, count=N), "cifar10_cond")
    labels = open_source(Source(parquet=file)).labels()
    assert labels.dtype == np.int64 and labels.tolist() == LABELS


# Numbers, hashes, sizes: the same for every format.


def test_another_number_of_images_is_refused(tmp_path, jpegs):
    file = str(write_parquet(tmp_path / "a.parquet", jpegs))
    with pytest.raises(UserError, match=r"holds 20 images, not the 50000 of cifar10_jpeg75; set source.count"):
        inspect(Source(parquet=file), "cifar10_jpeg75")
    refused("holds 20 images, not the 19 of source.count", parquet=file, count=19)
    refused("source.first asks for 21", parquet=file, first=21)
    inspect(Source(parquet=file, first=20), "cifar10_jpeg75")


def test_a_file_of_another_hash_is_refused(tmp_path, jpegs):
    file = str(write_parquet(tmp_path / "a.parquet", jpegs))
    refused(r"a\.parquet has SHA-256 [0-9a-f]{64}, not 00", parquet=file, sha256={"a.parquet": "00"})
    refused("unknown file 'b.parquet'", parquet=file, sha256={"b.parquet": "00"})


@pytest.mark.parametrize(
    "picture, complaint",
    [
        (encoded(pictures(1, 48)[0]), "is 48×48, not 32×32; we resize nothing.*dataset_tool"),
        (encoded(pictures(1)[0])[:200], "is no image that can be read"),
        (b"not an image", "is no image that can be read"),
    ],
)
def test_an_image_of_another_kind_is_refused(tmp_path, picture, complaint):
    refused(f"row 0 {complaint}", parquet=str(write_parquet(tmp_path / "a.parquet", [picture])))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_size_is_known_before_anything_is_decoded(monkeypatch):
    from PIL import Image, ImageFile

    out = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(out, "PNG")
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("decoded"))
    with pytest.raises(UserError, match="x is 12000×12000, not 32×32"):
        decode("x", out.getvalue(), SHAPE)


def deep(form: str) -> bytes:
    """A 32×32 colour picture of 16 bits a channel, by the format's specification (Pillow writes none)."""
    values = np.random.default_rng(0).integers(0, 65536, (32, 32, 3)).astype(">u2")
    if form == "PPM":
        return b"P6 32 32 65535\n" + values.tobytes()

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.tobytes() for row in values)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 32, 32, 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("form", ["PNG", "PPM"])
def test_sixteen_bits_are_not_cut_to_eight(form):
    with pytest.raises(UserError, match="x has other than 8 bits a channel; convert the images first"):
        decode("x", deep(form), SHAPE)


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF"])
def test_only_one_picture_is_in_an_image(images, form):
    from PIL import Image

    first, second = (Image.fromarray(picture.transpose(1, 2, 0)) for picture in images[:2])
    out = io.BytesIO()
    first.save(out, form, save_all=True, append_images=[second])
    with pytest.raises(UserError, match="x holds 2 pictures"):
        decode("x", out.getvalue(), SHAPE)


@pytest.mark.parametrize("form", ["PNG", "PPM", "TIFF", "BMP"])
def test_formats_without_loss_give_the_very_pixels(images, form):
    assert np.array_equal(decode("x", encoded(images[0], form), SHAPE), images[0])


def test_an_arrays_header_may_promise_anything():
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (3, 1000000, 1000000000), }\n"
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    with pytest.raises(UserError, match="x is no array that can be read"):
        decode("x", data, SHAPE)


def test_grey_pictures_become_colour_and_nothing_else_does():
    grey = pictures(1, channels=1)[0]
    assert np.array_equal(decode("x", encoded(grey), SHAPE), np.repeat(grey, 3, 0))
    from PIL import Image

    for mode in ("RGBA", "CMYK"):
        out = io.BytesIO()
        Image.new(mode, (32, 32)).save(out, "TIFF")
        with pytest.raises(UserError, match=f"x is {mode}, not RGB"):
            decode("x", out.getvalue(), SHAPE)


def test_real_datasets_need_a_source_and_others_none():
    with pytest.raises(UserError, match=r"datasets.cifar10.source: say where the images lie"):
        inspect(None, "cifar10")
    with pytest.raises(UserError, match="digits comes with the program"):
        inspect(Source(folder="."), "digits")
    inspect(None, "digits")


# Zips.


def test_a_zips_labels_go_by_name(tmp_path, images, pngs):
    names = [f"{i // 4:05d}/img{i:08d}.png" for i in range(N)]
    labels = [[name, label] for name, label in zip(names, LABELS, strict=True)][::-1]
    mixed = {name: pngs[i] for i, name in reversed(list(enumerate(names)))}
    pixels, found = everything(zip=str(write_zip(tmp_path / "a.zip", mixed, labels)))
    assert np.array_equal(pixels, images) and found.tolist() == LABELS and found.dtype == np.int64
    inspect(Source(zip=str(tmp_path / "a.zip"), count=N), "cifar10_cond")


def test_a_zip_may_hold_arrays(tmp_path, images):
    stored = {}
    for i, picture in enumerate(images):
        out = io.BytesIO()
        np.save(out, picture if i % 2 else picture.transpose(1, 2, 0))
        stored[f"{i:03d}.npy"] = out.getvalue()
    assert np.array_equal(everything(zip=str(write_zip(tmp_path / "a.zip", stored)))[0], images)


@pytest.mark.parametrize("labels", ["none", None, []])
def test_a_zip_without_labels_is_for_datasets_without_classes(tmp_path, pngs, labels):
    file = str(write_zip(tmp_path / "a.zip", {f"{i:02d}.png": png for i, png in enumerate(pngs)}, labels))
    inspect(Source(zip=file, count=N), "cifar10")
    refused(r"a\.zip has no labels, and cifar10_cond is class-conditional", "cifar10_cond", zip=file, count=N)


@pytest.mark.parametrize(
    "labels, complaint",
    [
        ({"0.png": 1}, r'is not {"labels": \[\[name, class\]'),
        ([["1.png", 1]], "no label for 0.png"),
        ([["0.png", 1.5]], "the label of 0.png is no whole number"),
        ([["0.png", [0.1, 0.2]]], "the label of 0.png is no whole number"),
        (["0.png"], "no pair"),
        ([["0.png", 10**30]], "the label of 0.png is no whole number of 64 bits"),
        ([["0.png", 10]], "image 0 has label 10; cifar10_cond has classes 0 to 9"),
    ],
)
def test_labels_that_are_none_are_refused(tmp_path, pngs, labels, complaint):
    file = str(write_zip(tmp_path / "a.zip", {"0.png": pngs[0]}, labels))
    refused(complaint, "cifar10_cond", zip=file, count=1)


def test_labels_nested_without_end_are_refused(tmp_path, pngs):
    file = write_zip(tmp_path / "a.zip", {"0.png": pngs[0]})
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("dataset.json", "[" * 200_000)
    refused(r'dataset\.json is not {"labels"', "cifar10_cond", zip=str(file), count=1)


def test_a_broken_zip_is_refused(tmp_path, pngs):
    file = write_zip(tmp_path / "a.zip", {f"{i:02d}.png": png for i, png in enumerate(pngs)})
    whole = bytearray(file.read_bytes())
    file.write_bytes(whole[: len(whole) // 2])
    refused(r"a\.zip is truncated or no zip", "cifar10", zip=str(file))
    whole[100] ^= 255  # within the first image: the directory is whole, its checksum tells
    file.write_bytes(whole)
    refused(r"a\.zip: 00\.png is damaged", "cifar10", zip=str(file))
    refused("no images", "cifar10", zip=str(write_zip(tmp_path / "b.zip", {"readme.txt": b""})))
    refused("c.zip does not exist", "cifar10", zip=str(tmp_path / "c.zip"))


# Folders.


def test_a_folders_classes_are_its_sub_folders(tmp_path, images, pngs):
    for i, png in enumerate(pngs):
        target = tmp_path / "set" / ["wild", "cat", "dog"][i % 3] / f"{i:03d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(png)
    (tmp_path / "set" / "cat" / "notes.txt").write_text("")
    pixels, labels = everything(folder=str(tmp_path / "set"))
    order = [i for rest in (1, 2, 0) for i in range(rest, N, 3)]
    assert np.array_equal(pixels, images[order])
    assert labels.tolist() == [{1: 0, 2: 1, 0: 2}[i % 3] for i in order]
    (tmp_path / "set" / "000.png").write_bytes(pngs[0])  # of no class
    assert everything(folder=str(tmp_path / "set"))[1] is None
    refused("is no folder", folder=str(tmp_path / "none"))
    (tmp_path / "empty").mkdir()
    refused("holds no images", folder=str(tmp_path / "empty"))


# CIFAR-10's pickles.


@pytest.fixture
def batches(tmp_path, images, monkeypatch):
    """Five small batches that count as published."""
    written = write_batches(tmp_path / "data" / cifar10.FOLDER, images, LABELS)
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in written.items()}
    monkeypatch.setattr(cifar10, "published_md5", lambda: md5)
    monkeypatch.setattr(cifar10, "EACH", N // 5)
    return md5


@pytest.mark.parametrize("inside", [False, True])
def test_cifar10s_batches_are_read_as_they_are(tmp_path, batches, images, inside):
    folder = tmp_path / "data"
    pixels, labels = everything(cifar10=str(folder / cifar10.FOLDER if inside else folder))
    assert np.array_equal(pixels, images) and labels.tolist() == LABELS
    inspect(Source(cifar10=str(folder), count=N), "cifar10_cond")


def test_torchvision_reads_the_same_from_these_batches(tmp_path, images):
    from torchvision.datasets import CIFAR10

    written = write_batches(tmp_path / CIFAR10.base_folder, images, LABELS)
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in written.items()}
    meta = tmp_path / CIFAR10.base_folder / "batches.meta"
    meta.write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    ours = type("Ours", (CIFAR10,), {"train_list": list(md5.items()), "test_list": []})
    ours.meta = {**CIFAR10.meta, "md5": hashlib.md5(meta.read_bytes()).hexdigest()}
    theirs = ours(tmp_path)
    assert np.array_equal(theirs.data.transpose(0, 3, 1, 2), images) and theirs.targets == LABELS


def test_the_published_batches_are_five():
    assert sorted(cifar10.published_md5()) == sorted(cifar10.NAMES)
    assert all(len(md5) == 32 for md5 in cifar10.published_md5().values())


def test_a_batch_of_other_content_or_a_missing_one_is_refused(tmp_path, batches):
    folder = tmp_path / "data" / cifar10.FOLDER
    (folder / "data_batch_3").write_bytes(b"other")
    with pytest.raises(UserError, match=r"data_batch_3 is not CIFAR-10's \(MD5"):
        everything(cifar10=str(folder))
    (folder / "data_batch_3").unlink()
    refused("data_batch_3 does not exist", "cifar10", cifar10=str(folder))


class Evil:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def test_a_batch_that_would_run_code_is_refused_by_what_it_asks_for(tmp_path, monkeypatch):
    content = pickle.dumps({"data": Evil(tmp_path / "made"), "labels": [0]}, protocol=2)
    file = tmp_path / "data_batch_1"
    file.write_bytes(content)
    monkeypatch.setattr(cifar10, "published_md5", lambda: {"data_batch_1": hashlib.md5(content).hexdigest()})
    with pytest.raises(UserError, match=r"asks for (posix|nt)\.mkdir, which no batch of CIFAR-10 does"):
        cifar10.read_batch(file)
    assert not (tmp_path / "made").exists()
    for broken in (content[:10], b"", pickle.dumps([1, 2])):
        file.write_bytes(broken)
        monkeypatch.setattr(cifar10, "published_md5", lambda b=broken: {"data_batch_1": hashlib.md5(b).hexdigest()})
        with pytest.raises(UserError, match="fetch it again"):
            cifar10.read_batch(file)


def test_a_pickle_may_change_nothing_of_what_it_calls():
    encode = cifar10.ALLOWED["_codecs", "encode"]
    for attribute in (b"__defaults__", b"__code__", b"_f"):
        for state in (b"}S'%s'\n(S'latin1'\ntsb." % attribute, b"(N}S'%s'\n(S'latin1'\ntstb." % attribute):
            with pytest.raises(UserError, match="attributes for what has none"):
                cifar10.load_inert(b"c_codecs\nencode\n" + state, Path("x"))
    with pytest.raises(TypeError):
        encode("text")
    assert encode("é", "latin1") == b"\xe9"


def test_a_pickle_that_asks_for_all_memory_is_refused():
    with pytest.raises(UserError, match="x is truncated or no batch"):
        cifar10.load_inert(b"cnumpy\nndarray\n((I1000000000\nI100000000\ntS'u1'\ntR.", Path("x"))


@pytest.fixture
def server(tmp_path, monkeypatch):
    """An HTTP server on this machine that serves a folder; gives the folder and its address."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (tmp_path / "served").mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path / "served")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        Thread(target=http.serve_forever, daemon=True).start()
        yield tmp_path / "served", f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


def test_batches_that_are_not_there_are_downloaded_once(tmp_path, batches, images, monkeypatch, server):
    from torchvision.datasets import CIFAR10

    archive, new = server[0] / CIFAR10.filename, tmp_path / "new"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "data" / cifar10.FOLDER, cifar10.FOLDER)
    monkeypatch.setattr(CIFAR10, "url", f"{server[1]}/{archive.name}")
    monkeypatch.setattr(CIFAR10, "tgz_md5", "0" * 32)
    monkeypatch.delenv("FEWSTEP_OFFLINE", raising=False)
    with pytest.raises(UserError, match=r"not in .*new and the download failed .*put data_batch_1 to data_batch_5"):
        everything(cifar10=str(new))
    assert not list(new.iterdir())
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    inspect(Source(cifar10=str(new)), "cifar10")  # nothing to check yet
    monkeypatch.setenv("FEWSTEP_OFFLINE", "1")
    refused("FEWSTEP_OFFLINE=1 forbids", "cifar10", cifar10=str(new))
    monkeypatch.delenv("FEWSTEP_OFFLINE")
    assert np.array_equal(everything(cifar10=str(new))[0], images)
    assert [file.name for file in new.iterdir()] == [cifar10.FOLDER]
    archive.unlink()  # no second time
    assert np.array_equal(everything(cifar10=str(new))[0], images)


# What a source is known by, unread.


def test_another_file_is_another_source(tmp_path, jpegs):
    file = write_parquet(tmp_path / "a.parquet", jpegs)
    source = Source(parquet=str(file))
    before = identity(source)
    assert identity(source) == before and identity(source.model_copy(update={"first": 3})) != before
    copied = tmp_path / "elsewhere" / "b.parquet"
    copied.parent.mkdir()
    copied.write_bytes(file.read_bytes())
    os.utime(copied, ns=(0, 1))
    assert identity(Source(parquet=str(copied))) == before, "a copy is the same dataset"
    write_parquet(file, jpegs[:-1])
    assert identity(source) != before


def test_what_was_prepared_tells_of_files_that_are_gone(tmp_path, jpegs):
    file, prepared = write_parquet(tmp_path / "a.parquet", jpegs), tmp_path / "cifar10_jpeg75.safetensors"
    source = Source(parquet=str(file))
    before = identity(source, prepared)
    save_arrays(prepared, {}, {"source": {"identity": before}})
    file.unlink()
    assert identity(source, prepared) == before
    assert identity(source.model_copy(update={"first": 3}), prepared) != before
    assert identity(source) != before


def test_a_folder_is_another_source_once_a_picture_is_added(tmp_path, pngs):
    (tmp_path / "a.png").write_bytes(pngs[0])
    before = identity(Source(folder=str(tmp_path)))
    (tmp_path / "b.png").write_bytes(pngs[1])
    assert identity(Source(folder=str(tmp_path))) != before


def test_a_folder_is_another_source_once_a_picture_is_of_another_class(tmp_path, pngs):
    root = tmp_path / "set"
    for i, png in enumerate(pngs[:4]):
        (root / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        (root / "ab"[i % 2] / f"{i}.png").write_bytes(png)
    before = identity(Source(folder=str(root)))
    shutil.copytree(root, tmp_path / "copy", copy_function=shutil.copyfile)
    assert identity(Source(folder=str(tmp_path / "copy"))) == before
    (root / "a" / "0.png").rename(root / "b" / "0.png")
    assert identity(Source(folder=str(root))) != before


def test_downloading_cifar10_makes_it_no_other_source(tmp_path, images):
    source = Source(cifar10=str(tmp_path))
    before = identity(source)
    write_batches(tmp_path / cifar10.FOLDER, images, LABELS)
    assert identity(source) == before
