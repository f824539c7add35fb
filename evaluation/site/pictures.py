"""The figures of a study as the page shows them: data URLs with titles, captions and links to the files."""

import base64
import io
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from evaluation.figures import KINDS

TITLES = {
    "quality_vs_nfe": "Quality against NFE",
    "ranking": "Ranking at few calls",
    "quality_vs_seconds": "Quality against time",
    "quality_vs_gflop": "Quality against GFLOP",
    "quality_vs_total_cost": "Quality against total cost, fitting included",
    "curvature": "Curvature",
    "trajectories_2d": "Paths from noise to data",
    "trajectories_pca": "Paths from noise to data, in the plane of most variance",
    "schedules": "Schedules",
    "training_curves": "Training curves",
    "sample_grid": "Samples from the same latents",
    "samples_2d": "Samples over the data",
    "codes": "What the codes stand for",
    "paces": "Each dimension's own pace through the noise",
}


def of_dataset(dataset: str, results: Path, names: list[str]) -> list[dict]:
    """The figures `<dataset>_<kind>*.png`, in the order of their kinds; `names` are the study's datasets.

    Each has title, caption (the one that the file carries), data (base64), files (relative links), width, height.
    """
    longer = tuple(f"{other}_" for other in names if other.startswith(f"{dataset}_"))
    drawn = (p for p in (results / "figures").glob(f"{dataset}_*.png") if not (longer and p.name.startswith(longer)))
    return [_figure(path, path.stem.removeprefix(f"{dataset}_"), results) for path in _ordered(drawn, f"{dataset}_")]


def of_study(results: Path, names: list[str]) -> list[dict]:
    """The figures that belong to no single dataset."""
    own = tuple(f"{name}_" for name in names)
    return [
        _figure(path, path.stem, results)
        for path in _ordered((p for p in (results / "figures").glob("*.png") if not p.name.startswith(own)), "")
    ]


def _ordered(paths, prefix: str) -> list[Path]:
    """Known kinds first, as they are declared; numbers at the end of names count as numbers."""
    order = list(KINDS)

    def place(path: Path) -> tuple:
        kind = _kind(path.stem.removeprefix(prefix))
        return order.index(kind) if kind in order else len(order), kind, len(path.name), path.name

    return sorted(paths, key=place)


def _kind(name: str) -> str:
    """ "sample_grid_nfe5" is of the kind "sample_grid"; a name of no known kind is its own."""
    known = [kind for kind in KINDS if name == kind or name.startswith(f"{kind}_")]
    return max(known, key=len, default=name)


def title(name: str) -> str:
    """A heading for a figure's name, e.g. "Samples from the same latents, NFE 5"; a model's name stays as it is."""
    kind = _kind(name)
    head = TITLES.get(kind) or kind.replace("_", " ").capitalize()
    rest = name.removeprefix(kind).strip("_")
    rest = f"NFE {rest[3:]}" if rest.startswith("nfe") else rest
    return f"{head}, {rest}" if rest else head


def _figure(path: Path, name: str, results: Path) -> dict:
    with Image.open(path) as image:
        caption, (width, height) = getattr(image, "text", {}).get("Description", ""), image.size
    files = [path.with_suffix(suffix) for suffix in (".png", ".svg", ".csv")]
    return {
        "title": title(name),
        "caption": caption,
        "data": base64.b64encode(compact(path)).decode(),
        "files": [file.relative_to(results).as_posix() for file in files if file.exists()],
        "width": width,
        "height": height,
    }


def compact(path: Path) -> bytes:
    """A picture as a PNG of 256 colours, enough to look at and a third of the bytes; its caption stays in it."""
    small, told = io.BytesIO(), PngInfo()
    with Image.open(path) as image:
        for key in ("Title", "Description"):
            if key in image.info:
                told.add_itxt(key, image.info[key])
        few = image.convert("RGB").quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        few.save(small, format="PNG", optimize=True, pnginfo=told, dpi=image.info.get("dpi"))
    return small.getvalue()
