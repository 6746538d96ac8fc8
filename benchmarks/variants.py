"""Alternatives to the defaults of `Flow` and `fit`, as further methods of `quality.py`; each changes one thing.

python benchmarks/quality.py --methods flow,"depth 5","no decay"
python benchmarks/quality.py --tables FOLDER --methods flow,variants
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from estimators import Fit, Task, fitted_flow
from pushforward import Adam, Flow, maf, neural_spline, nice, realnvp
from pushforward._model.layer import Layer


@dataclass(frozen=True)
class Variant:
    """A preset and its options, and the options of the fit, of which two are the optimiser's."""

    preset: Callable[..., list[Layer]] = neural_spline
    layers: dict[str, Any] = field(default_factory=dict)
    fit: dict[str, Any] = field(default_factory=dict)
    learning_rate: float = 3e-3
    weight_decay: float | None = None

    def __call__(self, task: Task) -> Fit:
        dim = task.x.shape[1]
        flow = Flow(
            dim,
            layers=self.preset(dim, **self.layers),
            support=task.support,
            seed=task.seed,
            num_threads=task.threads,
        )
        return fitted_flow(flow, task, optimizer=Adam(self.learning_rate, weight_decay=self.weight_decay), **self.fit)


VARIANTS = {
    # other presets
    "autoregressive": Variant(layers={"autoregressive": True}),
    "realnvp": Variant(realnvp),
    "maf": Variant(maf),
    "nice": Variant(nice),
    # other flows
    "depth 5": Variant(layers={"depth": 5}),
    "hidden 32": Variant(layers={"hidden": 32}),
    "hidden 128": Variant(layers={"hidden": 128}),
    "MLP": Variant(layers={"hidden": (64, 64)}),
    "2 blocks": Variant(layers={"blocks": 2}),
    "4 bins": Variant(layers={"bins": 4}),
    "16 bins": Variant(layers={"bins": 16}),
    "bound 3": Variant(layers={"bound": 3.0}),
    "silu": Variant(layers={"activation": "silu"}),
    "dropout 0.1": Variant(layers={"dropout": 0.1}),
    "permutations": Variant(layers={"mixing": "permutation"}),
    "kept stay": Variant(layers={"unconditional": False}),
    # other fits
    "rate 1e-3": Variant(learning_rate=1e-3),
    "rate 1e-2": Variant(learning_rate=1e-2),
    "no decay": Variant(weight_decay=0.0),
    "decay 0.3": Variant(weight_decay=0.3),
    "decay 1": Variant(weight_decay=1.0),
    "batch 128": Variant(fit={"batch_size": 128}),
    "batch 512": Variant(fit={"batch_size": 512}),
    "no clipping": Variant(fit={"clip_norm": None}),
    "50 epochs": Variant(fit={"epochs": 50}),
    "200 epochs": Variant(fit={"epochs": 200}),
}
