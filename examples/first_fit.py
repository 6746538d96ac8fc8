"""The README's example, and its picture: `python examples/first_fit.py [PNG]`."""

import sys

import numpy as np
from matplotlib import pyplot as plt
from pushforward import Flow

rng = np.random.default_rng(0)
a = rng.normal(size=5000)
x = np.stack([a, a**2 + np.exp(a) * rng.normal(scale=0.3, size=5000)], axis=1)

flow = Flow(2, seed=0).fit(x, seed=0)
print(flow.history)

figure, axes = plt.subplots(1, 3, figsize=(10, 3.6), sharex=True, sharey=True, layout="constrained")
(left, right), (low, high) = (-3.2, 3.2), (-3, 9)
points = np.stack(np.meshgrid(np.linspace(left, right, 300), np.linspace(low, high, 300)), axis=-1)
log_density = flow.log_prob(points.reshape(-1, 2)).reshape(300, 300)
axes[0].scatter(*x.T, s=2, color="#0072b2", alpha=0.5, linewidths=0)
axes[1].contourf(
    points[..., 0], points[..., 1], log_density, levels=np.arange(-9, 0.6, 0.75), cmap="cividis", extend="both"
)
axes[2].scatter(*flow.sample(5000, seed=1).T, s=2, color="#d55e00", alpha=0.5, linewidths=0)
for axis, title in zip(axes, ("data", "log density", "samples"), strict=True):
    axis.set(title=title, xlim=(left, right), ylim=(low, high), xlabel="$x_1$")
axes[0].set_ylabel("$x_2$")
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "first_fit.png", dpi=110)
