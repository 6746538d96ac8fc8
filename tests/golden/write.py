"""Write the golden files of the present format: `python tests/golden/write.py`, once per format, then never again."""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from cases import CASES
from pushforward import files

NAMES = ("nice-3", "realnvp-2", "affine-silu-3|3", "random-1-8", "affine-1", "actnorm-2", "permutation-3")

for case in CASES:
    if str(case) in NAMES:
        for dtype in ("float32", "float64"):
            flow, x, context = case.flow(dtype), case.latent(20), case.condition(20)
            flow.columns = tuple(f"column {i}" for i in range(case.dim))
            path = Path(__file__).parent / f"format{files.FORMAT}-{str(case).replace('|', '+')}-{dtype}.safetensors"
            flow.save(path)
            z, _ = flow.inverse(x, context)
            known = {} if context is None else {"context": context}
            np.savez(path.with_suffix(".npz"), x=x, z=z, log_prob=flow.log_prob(x, context), **known)
