"""Write the golden files of the present format that are not there: `python tests/golden/write.py`.

A file is written once, when its kind of flow is new, and never again.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
import test_support
from cases import CASES
from pushforward._io import files

NAMES = {
    *("nice-3", "realnvp-2", "affine-silu-3|3", "random-1-8", "affine-1", "actnorm-2", "permutation-3"),
    *("spline-3|3", "spline-clip-2", "spline-kept-3", "spline-resnet-2", "affine-gelu-2", "affine-elu-2"),
    *("affine-leaky-2", "lu-3", "householder-3", "maf-3|3", "maf-resnet-3", "maf-two-passes-3", "maf-degrees-3"),
    *("image-glow-16", "image-lattice-8", "image-conv-resnet-12|3", "image-conv-channels-18"),
    *("iaf-spline-2", "student-t-2", "student-t-learned-2", "context-network-spline-3|3", "context-network-maf-2|50"),
}
SUPPORTED = {"all-circular-5", "box-boxed-3|2"}

cases = [case for case in CASES if str(case) in NAMES] + [case for case in test_support.CASES if str(case) in SUPPORTED]
assert {str(case) for case in cases} == NAMES | SUPPORTED
for case in cases:
    for dtype in ("float32", "float64"):
        path = Path(__file__).parent / f"format{files.FORMAT}-{str(case).replace('|', '+')}-{dtype}.safetensors"
        if path.exists():
            continue
        flow, context = case.flow(dtype), case.condition(20)
        x = flow.forward(case.latent(20), context)[0] if str(case) in SUPPORTED else case.latent(20)
        flow.columns = tuple(f"column {i}" for i in range(case.dim))
        flow.save(path)
        z, _ = flow.inverse(x, context)
        density = flow.log_prob(x, context)
        known = {} if context is None else {"context": context}
        if shape := getattr(case, "shape", None):
            x = x.reshape(-1, *shape)
        np.savez(path.with_suffix(".npz"), x=x, z=z, log_prob=density, **known)
