#!/usr/bin/env python3
"""Gradients of all weights of the small models of every family, by torch's autograd in float64.

    python3 tests/golden/family_gradients.py [--output tests/golden/family_gradients.h5]

The loss is the sum of the sequences' mean next-token cross-entropies, of the ids in each case's
reference.h5. For each folder of families/ a dataset f64[tensors,4], the tensors in the bytewise
order of their names in the safetensors files: the gradient's L2 norm, its sum, and its products with
two vectors of numbers in [-1, 1), which vector() defines. Written with transformers 5.23.0 and torch
2.13.0; run-to-run the files are equal.
"""
import argparse
import os

import h5py
import numpy as np
import safetensors
import torch

import families

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "families")


def vector(count, seed):
    """What a gradient is multiplied by; in all integers modulo 2^32."""
    mixed = (np.arange(1, count + 1, dtype=np.uint64) * 2654435761 + seed * 40503) % 2**32
    mixed ^= mixed >> np.uint64(15)
    mixed = mixed * 2246822519 % 2**32
    mixed ^= mixed >> np.uint64(13)
    return mixed.astype(np.float64) / 2**31 - 1


def stored_names(folder):
    names = []
    for file in os.listdir(folder):
        if file.endswith(".safetensors"):
            with safetensors.safe_open(os.path.join(folder, file), "np") as tensors:
                names += tensors.keys()
    return sorted(names, key=lambda name: name.encode())


def gradients(folder):
    with h5py.File(os.path.join(folder, "reference.h5")) as file:
        ids, offsets, losses = file["ids"][:], file["offsets"][:], file["losses"][:]
    model = families.load(folder)
    with families.everything_in_double():
        for begin, end, want in zip(offsets, offsets[1:], losses):
            row = torch.tensor(ids[begin:end], dtype=torch.int64)
            logits = model(row[None], use_cache=False).logits[0]
            loss = torch.nn.functional.cross_entropy(logits[:-1], row[1:])
            assert abs(loss.item() - want) < 1e-12
            loss.backward()
    parameters = dict(model.named_parameters(remove_duplicate=False))
    return [parameters[name].grad.numpy().ravel() for name in stored_names(folder)]


def figures(gradient):
    return [np.sqrt(np.sum(gradient**2)), np.sum(gradient),
            gradient @ vector(gradient.size, 1), gradient @ vector(gradient.size, 2)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default="tests/golden/family_gradients.h5")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    with h5py.File(arguments.output, "w", libver="latest") as file:
        for case in sorted(os.listdir(FOLDER)):
            folder = os.path.join(FOLDER, case)
            if os.path.isdir(folder):
                rows = np.array([figures(gradient) for gradient in gradients(folder)])
                file.create_dataset(case, data=rows, track_times=False)
                print(f"{case:16} {len(rows):3} tensors, norms {rows[:, 0].min():.1e} to "
                      f"{rows[:, 0].max():.1e}")


if __name__ == "__main__":
    main()
