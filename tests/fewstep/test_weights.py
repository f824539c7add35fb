"""Where weights are looked for, in which order, and what happens when they are wrong or absent."""

import hashlib
import http.server
import threading
from pathlib import Path

import pytest

from evaluation.extractors import EXTRACTORS, open_extractor
from fewstep import weights
from fewstep.errors import UserError, WeightsMissing
from fewstep.weights import WeightFile, cache_folder, find, resolve, sha256_of

DATA = b"some weights"
SHA = hashlib.sha256(DATA).hexdigest()
FILE = WeightFile(("net-abc.pth", "other-name.pth"), SHA, len(DATA), "http://127.0.0.1:9/net-abc.pth")


@pytest.fixture(autouse=True)
def empty_machine(tmp_path, monkeypatch):
    """No weights anywhere, and no way to download any."""
    for name, folder in (("FEWSTEP_CACHE", "cache"), ("TORCH_HOME", "torch")):
        monkeypatch.setenv(name, str(tmp_path / folder))
    monkeypatch.delenv("FEWSTEP_WEIGHTS", raising=False)
    monkeypatch.setenv("FEWSTEP_OFFLINE", "1")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def put(path: Path, data: bytes = DATA) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_places_are_searched_in_order(tmp_path, monkeypatch):
    assert find(FILE) is None
    hub = put(tmp_path / "torch" / "hub" / "checkpoints" / "other-name.pth")
    assert resolve(FILE) == (hub, SHA)
    cache = put(tmp_path / "cache" / "weights" / "net-abc.pth")
    assert cache.parent == cache_folder() and resolve(FILE) == (cache, SHA)
    own = put(tmp_path / "own" / "net-abc.pth")
    monkeypatch.setenv("FEWSTEP_WEIGHTS", str(own.parent))
    assert resolve(FILE) == (own, SHA)
    given = put(tmp_path / "given.bin")
    assert resolve(FILE, given) == (given, SHA)


def test_torch_hubs_folder_is_torchs(monkeypatch, tmp_path):
    import torch

    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    for set_home in (True, False):
        if not set_home:
            monkeypatch.delenv("TORCH_HOME")
            monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        assert str(weights._hub_checkpoints().parent) == torch.hub.get_dir()


def test_a_package_brings_lite0():
    path, sha256 = resolve(weights.LITE0)
    assert sha256 == weights.LITE0.sha256 and path.stat().st_size == weights.LITE0.size


def test_corrupt_weights_name_both_hashes(tmp_path):
    bad = put(tmp_path / "cache" / "weights" / "net-abc.pth", DATA + b"!")
    with pytest.raises(UserError, match="corrupt weights") as error:
        resolve(FILE)
    text = str(error.value)
    assert SHA in text and sha256_of(bad) in text and str(bad) in text and "delete it" in text and "\n" not in text
    assert not isinstance(error.value, WeightsMissing)


def test_a_studys_own_file_needs_its_own_hash(tmp_path):
    other = put(tmp_path / "random.pth", b"random")
    with pytest.raises(UserError, match=f"expected {SHA}; give its own sha256"):
        resolve(FILE, other)
    assert resolve(FILE, other, sha256_of(other).upper()) == (other, sha256_of(other))
    with pytest.raises(UserError, match="corrupt weights"):
        resolve(FILE, other, SHA)


def test_a_studys_own_file_is_the_only_place(tmp_path):
    put(tmp_path / "cache" / "weights" / "net-abc.pth")
    with pytest.raises(WeightsMissing, match=r"absent\.pth does not exist"):
        resolve(FILE, tmp_path / "absent.pth")


@pytest.mark.parametrize("name", [name for name, spec in EXTRACTORS.items() if spec.weights and spec.weights.url])
def test_missing_weights_say_what_to_put_where(name, tmp_path, monkeypatch):
    file = EXTRACTORS[name].weights
    with pytest.raises(WeightsMissing) as error:
        open_extractor(name)
    text = str(error.value)
    assert file.url in text and f"{file.size / 1e6:,.0f} MB" in text and str(tmp_path / "cache" / "weights") in text
    assert "FEWSTEP_OFFLINE=1" in text and "\n" not in text and error.value.reason == "weights"
    monkeypatch.setenv("FEWSTEP_WEIGHTS", "/mnt/weights")
    with pytest.raises(WeightsMissing, match="/mnt/weights"):
        open_extractor(name)


def test_a_missing_package_is_named():
    file = WeightFile(("x.pth",), SHA, 1, package="no_such_package_of_weights", folder="models")
    with pytest.raises(WeightsMissing, match="install the Python package no-such-package-of-weights"):
        resolve(file)


@pytest.fixture
def server(tmp_path):
    """A web server on this machine that offers `DATA` as net-abc.pth and something else as bad.pth."""
    put(tmp_path / "www" / "net-abc.pth")
    put(tmp_path / "www" / "bad.pth", b"<html>not found</html>")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(tmp_path / "www"))

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_downloads_go_to_the_cache_once(server, tmp_path, monkeypatch):
    monkeypatch.delenv("FEWSTEP_OFFLINE")
    file = FILE._replace(url=f"{server}/net-abc.pth")
    target = tmp_path / "cache" / "weights" / "net-abc.pth"
    assert resolve(file) == (target, SHA) and target.read_bytes() == DATA
    (tmp_path / "www" / "net-abc.pth").unlink()
    assert resolve(file) == (target, SHA)


def test_a_failed_download_leaves_nothing(server, tmp_path, monkeypatch):
    monkeypatch.delenv("FEWSTEP_OFFLINE")
    for url in (f"{server}/absent.pth", f"{server}/bad.pth", FILE.url):
        with pytest.raises(WeightsMissing, match="the download failed") as error:
            resolve(FILE._replace(url=url))
        assert "\n" not in str(error.value)
        left = [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"]
        assert left == []
