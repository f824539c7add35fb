"""Colours: the same in all studies, seen on white and told apart by colour-blind readers."""

from itertools import combinations

import numpy as np
import pytest

from evaluation.figures import palette
from fewstep import registry

# Machado, Oliveira and Fernandes (2009), "A Physiologically-based Model for Simulation of Color Vision Deficiency",
# severity 1; they apply to linear RGB.
VISIONS = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
WHITE = np.array([0.95047, 1, 1.08883])
NEAR = 12  # CIELAB distance below which two thin lines are easily mixed up
SOLVERS = list(registry.of_kind("solver"))
METHODS = {id: m for id, m in registry.discover().items() if m.kind != "control"}


def linear(colour: str) -> np.ndarray:
    c = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    t = XYZ @ np.clip(rgb, 0, 1) / WHITE
    x, y, z = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def distance(a: str, b: str) -> float:
    """The smallest CIELAB distance of two colours to any of the four kinds of eyes."""
    pairs = [(np.array(matrix) @ linear(a), np.array(matrix) @ linear(b)) for matrix in VISIONS.values()]
    return min(float(np.linalg.norm(lab(one) - lab(two))) for one, two in pairs)


def test_the_distance_is_that_of_known_colours():
    assert distance("#000000", "#ffffff") == pytest.approx(100, abs=0.1)
    assert lab(linear("#ff0000")) == pytest.approx([53.24, 80.09, 67.20], abs=0.05)  # the sRGB primary in CIELAB, D65
    assert distance("#d7191c", "#1a9641") < np.linalg.norm(lab(linear("#d7191c")) - lab(linear("#1a9641"))) / 2


def test_every_method_has_a_colour_that_stands_out_from_white():
    colours = palette.colours()
    assert set(colours) == set(METHODS)
    weights = np.array([0.2126, 0.7152, 0.0722])
    for colour in {*colours.values(), *palette.HUES, *palette.CLASSIC, *palette.GREYS}:
        assert 1.05 / (weights @ linear(colour) + 0.05) >= 3, colour


def test_solvers_that_are_near_in_colour_differ_in_their_marks():
    near = [p for p in combinations(SOLVERS, 2) if distance(palette.colour(p[0]), palette.colour(p[1])) < NEAR]
    assert near
    look = {s: (*palette.marks(s), palette.hollow(s)) for s in SOLVERS}
    assert not [(a, b) for a, b in near if look[a] == look[b]]


def test_presets_share_their_methods_colour_and_no_two_their_marks():
    for method in METHODS.values():
        assert palette.colour(method.id) == palette.colour(method.card.name)
    for name in {METHODS[s].card.name for s in SOLVERS}:
        presets = [s for s in SOLVERS if METHODS[s].card.name == name]
        assert len({palette.marks(s) for s in presets}) == len(presets)


def test_entered_solvers_have_colours_of_their_own():
    names = {registry.get(s, "solver").card.name for s in registry.entered("solver")}
    classic = {name for name in names if not METHODS[name].card.paper.arxiv}
    distinct = min(len(classic), len(palette.CLASSIC)) + min(len(names - classic), len(palette.HUES))
    assert len({palette.colour(name) for name in names}) == distinct


def test_hues_are_told_apart_with_any_eyes():
    """Where several accelerators share a panel their colours alone tell them apart."""
    assert min(distance(a, b) for a, b in combinations(palette.HUES, 2)) > 11


def test_a_solver_without_a_preset_is_known_in_grey_print():
    plain = [s for s in SOLVERS if not METHODS[s].preset]
    assert len({(*palette.marks(s), palette.hollow(s)) for s in plain}) == len(plain)


def test_a_newer_method_repaints_none(monkeypatch):
    before = palette.colours(), {s: palette.marks(s) for s in SOLVERS}
    newest = registry.get("euler", "solver")
    paper = newest.card.paper.model_copy(update={"arxiv": "9912.31337"})
    card = newest.card.model_copy(update={"name": "aaa_newest", "paper": paper})
    grown = registry.discover() | {"aaa_newest": registry.Method("aaa_newest", card, newest.folder)}
    monkeypatch.setattr(registry, "discover", lambda: grown)
    after = palette.colours()
    assert after.pop("aaa_newest")
    assert (after, {s: palette.marks(s) for s in SOLVERS}) == before


def test_an_unknown_method_keeps_its_colour_too(monkeypatch):
    before = palette.line("long_gone")
    monkeypatch.setattr(registry, "discover", dict)
    assert palette.line("long_gone") == before
    assert before["color"] in palette.HUES


def test_a_model_has_the_colour_of_what_is_fitted_on_top():
    accelerator = next(iter(registry.of_kind("accelerator")))
    baseline = next(iter(registry.of_kind("baseline")))
    assert palette.of_model(f"{baseline}+{accelerator}") == palette.colours()[accelerator]
    assert palette.of_model(baseline) == palette.colours()[baseline]
