"""Every contract test runs on every method that the registry finds; a new folder is tested without an edit here."""

import pytest
from small_lpips import small_lpips

from fewstep import registry

KINDS = ("solver", "baseline", "accelerator", "control")


def pytest_generate_tests(metafunc):
    """Arguments named after a kind get each method and preset of that kind, `folder` gets each folder once."""
    for kind in KINDS:
        if kind in metafunc.fixturenames:
            methods = registry.of_kind(kind)
            metafunc.parametrize(kind, list(methods.values()), ids=list(methods))
    if "folder" in metafunc.fixturenames:
        methods = {id: method for id, method in registry.discover().items() if not method.preset}
        metafunc.parametrize("folder", list(methods.values()), ids=list(methods))


@pytest.fixture(autouse=True)
def _lpips(monkeypatch):
    """What trains by LPIPS does so by a small network: the published weights need not be here."""
    small_lpips(monkeypatch)
