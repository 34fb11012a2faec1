#!/usr/bin/env python3
"""Writes redundancy.h5: a small q and its redundancy to a core, computed with numpy alone.

usage: redundancy_fixture.py OUT.h5

q is [tokens, L, m] as in accumulate.h5. Layer 1 holds the channels under test: correlated and
anticorrelated ones, a copy and a negated copy of a core channel (the clamp), a constant one (no
variance), and one on a scale of 1e-15 (the correlation must not see it). Layer 0 is unrelated noise
that a wrong stride would pick up.
"""

import sys

import h5py
import numpy as np

TOKENS, LAYERS, M = 96, 2, 24
CORE = [5, 0, 17, 9]
HALO = [3, 11, 2, 20, 23, 8, 14, 1, 6]


def make_q():
    rng = np.random.default_rng(2604)
    q = rng.standard_normal((TOKENS, LAYERS, M))
    layer = q[:, 1, :]
    layer[:, 3] = 0.7 * layer[:, 5] + 0.3 * layer[:, 3]
    layer[:, 11] = -0.8 * layer[:, 0] + 0.2 * layer[:, 11]
    layer[:, 2] = layer[:, 17]
    layer[:, 20] = -layer[:, 9]
    layer[:, 23] = 0.1
    layer[:, 8] = 1e-15 * (layer[:, 5] + layer[:, 0] + layer[:, 8]) + 3e-15
    layer[:, 14] = 5.0 + 0.5 * layer[:, 9] + layer[:, 14]
    return q.astype(np.float32)


def redundancy(q, top_k, positive_only):
    out = np.zeros(len(HALO))
    for i, j in enumerate(HALO):
        each = []
        for s in CORE:
            a, b = q[:, j].astype(np.float64), q[:, s].astype(np.float64)
            r = 0.0 if np.ptp(a) == 0 or np.ptp(b) == 0 else np.corrcoef(a, b)[0, 1]
            r = np.clip(r, -0.9999, 0.9999)
            if positive_only:
                r = max(r, 0.0)
            each.append(-0.5 * np.log(1.0 - r * r))
        out[i] = np.mean(sorted(each, reverse=True)[:top_k])
    return out


def main():
    q = make_q()
    with h5py.File(sys.argv[1], "w") as out:
        out["q"] = q
        out["core"] = np.array(CORE, np.int32)
        out["halo"] = np.array(HALO, np.int32)
        for top_k in (1, 3, 5):
            for name, positive in (("positive", True), ("both", False)):
                out[f"redundancy/{name}/{top_k}"] = redundancy(q[:, 1, :], top_k, positive)


if __name__ == "__main__":
    main()
