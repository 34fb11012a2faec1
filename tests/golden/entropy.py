#!/usr/bin/env python3
"""Entropies of the columns of a matrix and their gradients, by torch's autograd in float64.

    entropy.py tests/golden/entropy.h5

Writes a made-up float32 matrix with columns of every awkward kind, its entropies in nats and their
derivatives: the input of unit.entropy. README.md beside this file says more.
"""
import math
import sys

import h5py
import numpy as np
import torch

ROWS, COLUMNS = 40, 64


def matrix(random):
    w = random.normal(0, 0.02, (ROWS, COLUMNS))
    w[:, 10:20] *= 10.0 ** random.uniform(-3, 3, 10)               # columns of other sizes
    w[:, 20:40] *= np.exp(random.normal(0, 3, (ROWS, 20)))         # uneven ones
    w[:, 40:50][random.random((ROWS, 10)) < 0.5] = 0               # with zeros
    w[:, 50] = 0
    w[7, 51], w[:7, 51], w[8:, 51] = -3, 0, 0                      # one weight alone
    w[:, 52] = 0.25 * (-1.0) ** np.arange(ROWS)                    # all alike
    w[:, 53] = random.uniform(-3e38, 3e38, ROWS)
    w[:, 54] = random.uniform(-1e-30, 1e-30, ROWS)
    w[:, 55] = 10.0 ** random.uniform(-44, 38, ROWS)
    w[:, 56] = -1e-20
    w[3, 56] = 5                                                   # nearly one weight alone
    w[:, 57:] = random.standard_cauchy((ROWS, COLUMNS - 57))
    return w.astype(np.float32)


def entropy(weights, form):
    """Of one column without zeros, or any for softmax."""
    size = weights.abs()
    if form == "softmax":
        logarithms = torch.log_softmax(size, 0)
    else:
        scaled = size / size.max().detach()
        powers = scaled if form == "absolute" else scaled * scaled
        logarithms = torch.log(powers) - torch.log(powers.sum())
    return -(torch.exp(logarithms) * logarithms).sum()


def column(values, form):
    gradient = np.zeros(ROWS)
    counted = np.ones(ROWS, bool) if form == "softmax" else values != 0
    if not counted.any():
        return math.log(ROWS), gradient
    weights = torch.tensor(values[counted], dtype=torch.float64, requires_grad=True)
    h = entropy(weights, form)
    h.backward()
    gradient[counted] = weights.grad.numpy()
    return h.item(), gradient


def main():
    w = matrix(np.random.default_rng(20))
    with h5py.File(sys.argv[1], "w") as file:
        file["weights"] = w
        for form in ("absolute", "square", "softmax"):
            columns = [column(w[:, j].astype(np.float64), form) for j in range(COLUMNS)]
            file[f"entropy/{form}"] = np.array([h for h, _ in columns])
            file[f"gradient/{form}"] = np.stack([g for _, g in columns], axis=1)
            assert all(np.isfinite(h) and np.isfinite(g).all() for h, g in columns)


main()
