"""Finds, without running it, what a method.py may not do."""

import ast
from collections.abc import Iterator

# Draws of torch that take a generator: without one they use the global stream.
DRAWS = {"randn", "rand", "randint", "randperm", "multinomial", "bernoulli", "normal", "poisson"}
IN_PLACE = {"normal_", "uniform_", "random_", "bernoulli_", "exponential_", "cauchy_", "log_normal_", "geometric_"}
NO_GENERATOR = {"randn_like", "rand_like", "randint_like"}
NETWORK = {"socket", "urllib", "requests", "http", "httpx", "ftplib", "huggingface_hub"}
CALLS = {
    "torch.manual_seed": "the global seed is the harness's",
    "torch.seed": "the global seed is the harness's",
    "torch.set_rng_state": "the global seed is the harness's",
    "torch.cuda.manual_seed": "the global seed is the harness's",
    "torch.cuda.manual_seed_all": "the global seed is the harness's",
    "torch.load": "pickle runs code; use fewstep.checkpoints",
    "eval": "runs text as code",
    "exec": "runs text as code",
}
# Constructors that own their state and are therefore harmless.
OWN_RNG = {"numpy.random.default_rng", "numpy.random.Generator", "numpy.random.PCG64", "random.Random"}


def _names(tree: ast.AST) -> dict[str, str]:
    """Local name -> the full name that it was imported under."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _full_name(node: ast.AST, names: dict[str, str]) -> str:
    """`np.random.randn` -> `numpy.random.randn`; "" for what is not a dotted name."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    return ".".join([names.get(node.id, node.id), *reversed(parts)])


def _problem(call: ast.Call, names: dict[str, str]) -> str:
    name = _full_name(call.func, names)
    attribute = name.rpartition(".")[2] or (call.func.attr if isinstance(call.func, ast.Attribute) else "")
    generator = any(keyword.arg in ("generator", None) for keyword in call.keywords)  # None: **options
    if name in CALLS:
        return f"{name}: {CALLS[name]}"
    if name.startswith(("numpy.random.", "random.")) and name not in OWN_RNG:
        return f"{name}: a global random stream"
    if name.startswith("torch.") and name.count(".") == 1:
        if attribute in DRAWS and not generator:
            return f"{name} without generator=: a global random stream"
        if attribute in NO_GENERATOR:
            return f"{name}: takes no generator; use torch.randn(x.shape, generator=…)"
    elif (attribute in IN_PLACE or attribute in {"multinomial", "bernoulli"}) and not generator:
        return f".{attribute} without generator=: a global random stream"
    if name.startswith("torch.hub."):
        return f"{name}: fetches from the network"
    return ""


def problems(source: str) -> Iterator[str]:
    """Every forbidden call or import of a source text, as `line N: what`."""
    tree = ast.parse(source)
    names = _names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (found := _problem(node, names)):
            yield f"line {node.lineno}: {found}"
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            for module in modules:
                if module.split(".")[0] in NETWORK or module == "torch.hub":
                    yield f"line {node.lineno}: import {module}: fetches from the network"
