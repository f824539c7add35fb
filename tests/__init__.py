"""A package, so that it goes before the top-level `tests` that torch-fidelity installs."""
