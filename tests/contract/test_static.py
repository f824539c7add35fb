"""What a method folder must hold, read without running it."""

import inspect

import pytest
import scan

from fewstep import registry

NEEDS = {"baseline": "fit", "accelerator": "fit", "solver": "sample", "control": "sample"}
FIRST = {
    "fit": ["task"],
    "sample": ["field", "latents", "nfe"],
    "loss": ["model", "x0", "eps", "rng"],
    "encoder": ["state", "dataset"],
    "field": ["state", "latents", "rng"],
    "timesteps": ["state", "nfe"],
    "cost": ["params"],
}
MAX_LINES = 400


def test_folder_is_complete(folder):
    """The yaml passes its schema under the folder's own name, and the README says what is reproduced."""
    card = registry.read_card(folder.folder)
    assert card.name == folder.folder.name
    assert folder.folder.parent.name == f"{card.kind}s", f"a {card.kind} belongs in methods/{card.kind}s"
    readme = folder.folder / "README.md"
    assert readme.exists() and len(readme.read_text().split()) >= 30, (
        "README.md: the paper, what is reproduced, deviations"
    )
    assert len((folder.folder / "method.py").read_text().splitlines()) <= MAX_LINES


def test_functions_take_what_the_contract_gives(folder):
    kind = folder.kind
    assert folder.verb(NEEDS[kind]), f"{kind}: method.py has no function {NEEDS[kind]}"
    if kind == "accelerator" and folder.card.solvers == "own":
        assert folder.verb("sample"), "solvers: own needs a function sample(field, latents, nfe)"
        arguments = inspect.signature(folder.verb("sample")).parameters.values()
        takes_all = any(argument.kind is argument.VAR_KEYWORD for argument in arguments)
        missing = set(folder.card.params) - {argument.name for argument in arguments}
        assert takes_all or not missing, (
            f"sample is called with all parameters; it lacks {sorted(missing)} or **options"
        )
    for name in registry.VERBS:
        if verb := folder.verb(name):
            wanted = ["dataset", "latents", "rng"] if (kind, name) == ("control", "sample") else FIRST[name]
            assert list(inspect.signature(verb).parameters)[: len(wanted)] == wanted, f"{name}({', '.join(wanted)}, …)"


def test_parameters_are_arguments(solver):
    """Each parameter in method.yaml reaches the rule that samples by it, and the rule has no parameter besides."""
    signature = set(inspect.signature(solver.verb("sample")).parameters)
    fitted = {"fitted"} if solver.verb("fit") else set()
    assert signature == {"field", "latents", "nfe", *fitted, *solver.card.params}


def test_nothing_forbidden(folder):
    """No global random numbers, no pickle, no eval, no network: in any Python file of the folder."""
    found = {file.name: list(scan.problems(file.read_text())) for file in sorted(folder.folder.rglob("*.py"))}
    assert not {name: lines for name, lines in found.items() if lines}


FORBIDDEN = [
    "import torch\ntorch.manual_seed(0)",
    "import torch\nx = torch.randn(3)",
    "import torch as th\nx = th.randperm(3)",
    "from torch import rand\nx = rand(3)",
    "import torch\nx = torch.randn_like(y)",
    "x.normal_()",
    "p.multinomial(3)",
    "import numpy as np\nx = np.random.randn(3)",
    "from numpy import random\nx = random.rand(3)",
    "import random\nrandom.shuffle(x)",
    "from random import choice\nchoice(x)",
    "import torch\ntorch.load('w.pt')",
    "eval('1')",
    "exec('1')",
    "import socket",
    "from urllib.request import urlopen",
    "import requests",
    "from huggingface_hub import hf_hub_download",
    "import torch\ntorch.hub.load('a', 'b')",
]
ALLOWED = [
    "import torch\nx = torch.randn(3, generator=g)",
    "import torch\nx = torch.multinomial(p, 3, generator=g)",
    "x.normal_(generator=g)",
    "y = rng.randn('codes', 3)",
    "import numpy as np\ng = np.random.default_rng(0)",
    "y = self.eval()",
    "model.eval()",
]


@pytest.mark.parametrize("source", FORBIDDEN)
def test_scan_refuses(source):
    assert list(scan.problems(source))


@pytest.mark.parametrize("source", ALLOWED)
def test_scan_allows(source):
    assert not list(scan.problems(source))
