"""A density of images: `python examples/images.py [FILE] [--minutes 1] [--output PNG]`.

Without a file, the images are scikit-learn's digits, 8 x 8 with 17 levels of grey. FILE holds `train_images` and
`test_images`, (n, height, width) of uint8, such as MNIST's.

The script fits a multi-scale flow, and prints the bits per dimension of held-out images beside those of a Gaussian. The
figure shows draws at three temperatures, and what the levels of the flow hold: test images are carried to latent space
and back, once as they are, and once with the levels nearest to the data replaced by draws from the base.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from pushforward import LU, Adam, Flow, Pixel, plot


def read(file: Path | None) -> tuple[np.ndarray, np.ndarray, Pixel]:
    """Return training images and test images, (n, 1, height, width), and what a pixel may be."""
    if file is None:
        from sklearn.datasets import load_digits

        x = np.random.default_rng(0).permutation(load_digits().images)[:, None].astype(np.float32)
        return x[:1400], x[1400:], Pixel(17)
    with np.load(file) as data:
        train, test = (data[name][:, None].astype(np.float32) for name in ("train_images", "test_images"))
    return train, test, Pixel(256)


def bits(flow: Flow, x: np.ndarray) -> float:
    """Return the mean of -log_prob in bits per dimension."""
    return -float(flow.log_prob(x).mean()) / (flow.dim * math.log(2))


def main() -> None:
    """Fit the flow and the Gaussian, and draw the sheets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--minutes", type=float, default=1.0, help="of training (default: 1)")
    parser.add_argument("--output", type=Path, default=Path("images.png"))
    arguments = parser.parse_args()
    train, test, pixel = read(arguments.file)

    flow = Flow(shape=train.shape[1:], support=pixel, seed=0)
    flow.fit(train, max_time=60 * arguments.minutes, optimizer=Adam(1e-3), seed=0)
    gaussian = Flow(flow.dim, layers=[LU()], support=pixel, dtype="float64").initialize(train.reshape(len(train), -1))
    print(f"{bits(flow, test):.3f} bits per dimension; {bits(gaussian, test.reshape(len(test), -1)):.3f} by a Gaussian")

    sheets = [
        plot.images(flow, 36, temperatures=(0.7, 0.85, 1.0)),
        plot.images(flow, 36, data=test),
    ]
    pictures = []
    for sheet in sheets:
        sheet.set_dpi(130)
        canvas = FigureCanvasAgg(sheet)
        canvas.draw()
        pictures.append(np.asarray(canvas.buffer_rgba())[..., :3])
    width = max(picture.shape[1] for picture in pictures)
    rows = [np.pad(p, ((0, 0), (0, width - p.shape[1]), (0, 0)), constant_values=255) for p in pictures]
    plt.imsave(arguments.output, np.concatenate(rows))


if __name__ == "__main__":
    main()
