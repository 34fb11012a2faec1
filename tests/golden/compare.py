#!/usr/bin/env python3
"""Compares two reference files, OLD.h5 and NEW.h5, with the JSON beside each.

Prints the largest relative difference of every dataset and figure that both hold (relative to the
larger of the value and 1e-6 of its row's largest); integers must be equal. Exit status 1 where
anything differs by more than 1e-6, or where OLD holds something that NEW lacks.
"""
import json
import os
import sys

import h5py
import numpy as np


def difference(old, new):
    if old.shape != new.shape:
        return np.inf
    if np.issubdtype(old.dtype, np.integer):
        return 0.0 if np.array_equal(old, new) else np.inf
    scale = np.maximum(np.abs(old), 1e-6 * np.abs(old).max(axis=-1, keepdims=True))
    return float(np.max(np.abs(new - old) / scale))


def figures(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from figures(value, prefix + key + "/")
        elif not isinstance(value, str):
            yield prefix + key, np.atleast_1d(np.float64(value))


def main():
    old_path, new_path = sys.argv[1:3]
    pairs, missing = [], []
    with h5py.File(old_path) as old, h5py.File(new_path) as new:
        names = []
        old.visit(names.append)  # a visitor that returns None is shown everything
        for name in (name for name in names if isinstance(old[name], h5py.Dataset)):
            if name in new:
                pairs.append((name, difference(old[name][()], new[name][()])))
            else:
                missing.append(name)
    trees = []
    for path in (old_path, new_path):
        with open(os.path.splitext(path)[0] + ".json", encoding="utf-8") as file:
            trees.append(dict(figures(json.load(file))))
    for name, value in trees[0].items():
        name_here = name.replace("lp-unprotected@", "lp@")  # an older spelling
        if name_here in trees[1]:
            pairs.append((name, difference(value, trees[1][name_here])))
        else:
            missing.append(name)
    for name, worst in pairs:
        print(f"{worst:9.2e}  {name}")
    for name in missing:
        print(f"  missing  {name}")
    worst = max(worst for _, worst in pairs)
    print(f"largest difference {worst:.2e}, {len(missing)} missing")
    return 0 if worst <= 1e-6 and not missing else 1


if __name__ == "__main__":
    sys.exit(main())
