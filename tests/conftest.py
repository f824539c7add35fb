"""Options and settings of all tests."""

import pytest
import torch

from fewstep.registry import Method

torch.set_num_threads(1)  # results are promised for one thread, and the tests run side by side


def pytest_addoption(parser):
    parser.addoption(
        "--method", metavar="NAME", help="only the tests of one method folder (with its presets) or of one preset"
    )


def _is_chosen(item, name: str) -> bool:
    """Whether a test is parametrised by the method `name`, a folder's name or a preset's id."""
    values = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return any(isinstance(value, Method) and name in (value.id, value.card.name) for value in values)


def pytest_collection_modifyitems(config, items):
    if name := config.getoption("--method"):
        chosen = [item for item in items if _is_chosen(item, name)]
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen
        if not chosen:
            raise pytest.UsageError(f"no contract test for a method called {name!r}")
