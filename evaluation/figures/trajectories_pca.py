"""ODE paths of images from noise to data, in the plane of the data's first two principal components."""

from pathlib import Path

import numpy as np
import pandas as pd

from evaluation.figures import tensors
from evaluation.figures.multiples import grid
from evaluation.figures.paths import draw_paths, recorded, tabulate, time_bar
from evaluation.figures.style import save

FITTED = 2000  # images that the components are fitted on, and drawn


def draw(dataset: str, board: pd.DataFrame, records: pd.DataFrame, results: Path) -> list[Path]:
    """Draw `<dataset>_trajectories_pca` of an image dataset.

    The components are of the data, not of the paths: so all panels have one plane, whatever models are in them.
    """
    points = records[(records["dataset"] == dataset) & (records["kind"] == "entrant")]
    data = tensors.read(results / "data" / f"{dataset}.safetensors", "x", FITTED)
    if set(points["family"]) != {"image"} or data is None or len(data) < 2:
        return []
    plane = Plane(data)
    seed = int(points["train_seed"].min())
    panels = [(model, plane.project(paths), times) for model, paths, times in recorded(dataset, points, seed, results)]
    return _figure(dataset, panels, plane, seed, results) if panels else []


class Plane:
    """The first two principal components of images [N, ...], uint8 or in [-1, 1]."""

    def __init__(self, images: np.ndarray):
        from sklearn.decomposition import PCA

        flat = _unit(images).reshape(len(images), -1)
        self.pca = PCA(2, svd_solver="randomized", random_state=0).fit(flat)
        self.data = self.pca.transform(flat)

    @property
    def shares(self) -> np.ndarray:
        """Shares [2] of the data's variance along the components."""
        return self.pca.explained_variance_ratio_

    def project(self, images: np.ndarray) -> np.ndarray:
        """Coordinates [..., 2] of images [..., C, H, W] of floats."""
        leading = images.shape[:-3]
        return self.pca.transform(images.reshape(int(np.prod(leading)), -1)).reshape(*leading, 2)


def _unit(images: np.ndarray) -> np.ndarray:
    return images / np.float32(127.5) - 1 if images.dtype == np.uint8 else images


def _figure(dataset: str, panels: list, plane: Plane, seed: int, results: Path) -> list[Path]:
    figure, axes = grid(len(panels), side=2.4, height=1.95, most=4, sharex=True, sharey=True)
    frames = []
    everything = np.concatenate([plane.data, *(paths.reshape(-1, 2) for _, paths, _ in panels)])
    low, high = everything.min(0), everything.max(0)
    margin = 0.04 * (high - low).max()
    for axis, (model, paths, times) in zip(axes, panels, strict=True):
        draw_paths(axis, plane.data, paths, times, width=1.1, dot=9, rasterized=False)
        axis.set(xlim=(low[0] - margin, high[0] + margin), ylim=(low[1] - margin, high[1] + margin), aspect="equal")
        axis.set_title(model, fontsize=9)
        frames.append(tabulate(model, seed, paths, times, ("u", "pc1", "pc2")))
    percent = [f"{100 * share:.0f} % of the data's variance" for share in plane.shares]
    figure.supxlabel(f"component 1 ({percent[0]})", fontsize=9)
    figure.supylabel(f"component 2 ({percent[1]})", fontsize=9)
    time_bar(figure, axes).ax.tick_params(labelsize=7.5)
    caption = (
        f"ODE paths on {dataset} from noise to data in the plane of the data's first two principal components (fitted "
        f"on {len(plane.data)} images, grey), training seed {seed}: {panels[0][1].shape[1]} paths from the same "
        "latents, coloured by the noise fraction; dots are the ends."
    )
    return save(figure, results, f"{dataset}_trajectories_pca", caption, pd.concat(frames))
