"""ODE paths of images from noise to data, in the plane of the data's first two principal components."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection

from evaluation.figures import tensors
from evaluation.figures.multiples import grid, in_order
from evaluation.figures.style import INK, save
from evaluation.figures.trajectories_2d import COLOURS
from evaluation.records import model_name

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
    panels = []
    for baseline, accelerator in in_order(points[["baseline", "accelerator"]].itertuples(index=False, name=None)):
        model = model_name(baseline, accelerator)
        path = results / "reference" / dataset / f"seed{seed}" / f"{model}.safetensors"
        paths, times = tensors.read(path, "trajectory"), tensors.read(path, "trajectory_times")
        if paths is not None and times is not None and np.isfinite(paths).all():
            panels.append((model, plane.project(paths), times))
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
        n_times, n_paths, _ = paths.shape
        axis.scatter(*plane.data.T, s=2, color="#dddddd", linewidths=0, rasterized=True)
        segments = np.stack([paths[:-1], paths[1:]], axis=2).reshape(-1, 2, 2)
        share = np.repeat((times[:-1] + times[1:]) / 2 / times.max(), n_paths)
        lines = LineCollection(segments, array=share, cmap=COLOURS, linewidths=1.1)
        lines.set_clim(0, 1)
        axis.add_collection(lines)
        axis.scatter(*paths[-1].T, s=9, color=INK, linewidths=0, zorder=3)
        axis.set(xlim=(low[0] - margin, high[0] + margin), ylim=(low[1] - margin, high[1] + margin), aspect="equal")
        axis.set_title(model, fontsize=9)
        index = np.meshgrid(np.arange(n_times), np.arange(n_paths), indexing="ij")
        flat = paths.reshape(-1, 2)
        frame = pd.DataFrame({"model": model, "train_seed": seed, "path": index[1].ravel(), "u": times.repeat(n_paths)})
        frames.append(frame.assign(pc1=flat[:, 0], pc2=flat[:, 1]).sort_values(["path", "u"], ascending=[True, False]))
    percent = [f"{100 * share:.0f} % of the data's variance" for share in plane.shares]
    figure.supxlabel(f"component 1 ({percent[0]})", fontsize=9)
    figure.supylabel(f"component 2 ({percent[1]})", fontsize=9)
    bar = figure.colorbar(ScalarMappable(cmap=COLOURS), ax=axes, shrink=0.7, aspect=30, pad=0.01)
    bar.set_label("noise (1) to data (0)")
    bar.ax.tick_params(labelsize=7.5)
    caption = (
        f"ODE paths on {dataset} from noise to data in the plane of the data's first two principal components (fitted "
        f"on {len(plane.data)} images, grey), training seed {seed}: {panels[0][1].shape[1]} paths from the same "
        "latents, coloured by the noise fraction; dots are the ends."
    )
    return save(figure, results, f"{dataset}_trajectories_pca", caption, pd.concat(frames))
