"""One colour a method and one mark a solver in all figures, whatever a study enters.

A method's colour follows from its place in the order of publication (by arXiv number) among the methods of its kind, so
that a newer method repaints none of the older ones. The presets of a method share its colour and differ in marker and
dash. A method that the registry doesn't know, as in old results, gets a place from its name's checksum.
"""

import zlib

from fewstep import registry
from fewstep.plan import NONE

# Picked for contrast to white (at least 3 : 1) and so that each is far from those before it, to normal and to
# colour-blind eyes; where two are near, marker or dash differs. Solvers begin at the front, accelerators at the end.
HUES = ["#0072B2", "#D55E00", "#5403A7", "#399D6A", "#E05BA3", "#9F122D", "#857AFE", "#885918"]
HUES += ["#164801", "#DA04B7", "#2E2C6F", "#719726", "#EF3A51", "#A44065", "#444EE7", "#CC5EDA"]
CLASSIC = ["#7E4285", "#680744", "#000000", "#00798C", "#6E0329", "#3E8648"]  # of rules older than preprints
GREYS = ["#2b2b2b", "#5c5c5c", "#7f7f7f", "#444444", "#6d6d6d", "#8c8c8c"]  # baselines, which labels tell apart
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "d"]
DASHES = [(), (4, 1.5), (1, 1), (5, 1, 1, 1), (2, 1), (6, 1.5, 2, 1.5), (3, 1, 1, 1, 1, 1)]


def colours() -> dict[str, str]:
    """Hex colour by method id: all baselines, accelerators and solvers of the registry, with their presets."""
    known = registry.discover()
    return {id: colour(id) for id, method in known.items() if method.kind != "control"}


def colour(id: str) -> str:
    """The hex colour of a method."""
    row, place, _ = _place(id)
    return row[place % len(row)]


def of_model(model: str) -> str:
    """The colour of a model, `baseline` or `baseline+accelerator`: what is fitted on top gives it."""
    return colour(model.rpartition("+")[2])


def marks(solver: str) -> tuple[str, tuple[float, ...]]:
    """Marker and dash of a solver, in matplotlib's terms; a method without a preset has a solid line."""
    _, place, preset = _place(solver)
    return MARKERS[(place + preset) % len(MARKERS)], DASHES[(preset + 3 * (place // len(MARKERS))) % len(DASHES)]


def hollow(solver: str) -> bool:
    """Whether a solver's markers are hollow: those of the classical rules, told apart so in grey print too."""
    return _place(solver)[0] is CLASSIC


def accelerator_dash(accelerator: str) -> tuple[float, ...]:
    """The dash that tells an accelerator's presets apart, which have one colour."""
    return DASHES[_place(accelerator)[2] % len(DASHES)]


def line(solver: str, accelerator: str = NONE) -> dict:
    """Keywords of a line: the solver's colour and dash, or the accelerator's where a panel compares several of them."""
    marker, dash = marks(solver)
    dash = dash if accelerator == NONE else accelerator_dash(accelerator)
    shade = colour(solver if accelerator == NONE else accelerator)
    return {
        "color": shade,
        "marker": marker,
        "linestyle": linestyle(dash),
        "linewidth": 1.4,
        "markersize": 5,
        "markerfacecolor": "white" if hollow(solver) else shade,
        "markeredgecolor": shade if hollow(solver) else "white",
        "markeredgewidth": 1.1 if hollow(solver) else 0.5,
    }


def linestyle(dash: tuple[float, ...]) -> str | tuple[int, tuple[float, ...]]:
    """A dash in matplotlib's terms."""
    return (0, dash) if dash else "-"


def _place(id: str) -> tuple[list[str], int, int]:
    """(the row of colours, the method's place in it, the place of its preset in the method's card)."""
    known = registry.discover()
    if id not in known:
        number = zlib.crc32(id.encode())
        return HUES, number % len(HUES), number // len(HUES) % (len(MARKERS) * len(DASHES))
    method = known[id]
    published = {m.card.name: m.card.paper.arxiv for m in registry.of_kind(method.kind).values()}
    row = {"baseline": GREYS, "accelerator": HUES[::-1]}.get(method.kind, HUES if method.card.paper.arxiv else CLASSIC)
    if method.kind == "solver":
        published = {name: number for name, number in published.items() if bool(number) == (row is HUES)}
    order = sorted(published, key=lambda name: (published[name], name))
    return row, order.index(method.card.name), ["", *method.card.presets].index(method.preset)
