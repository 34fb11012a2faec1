#!/usr/bin/env python3
"""Holds exported folders against transformers: every model and layout is loaded with
AutoModelForCausalLM in float32, and its logits of the first calibration sequence must be those that
lode computes from the same folder, and those of the source with the removed channels masked.

    export_check.py LODE DATA [MODEL ...]

LODE is the program, DATA the data folder. Needs numpy, h5py, torch and transformers; run by hand.
Exit status: 0 all agree, 1 otherwise.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import h5py
import numpy as np
import torch
from transformers import AutoModelForCausalLM

TOLERANCE = 1e-4
VARIANTS = {
    "sliced": ("scar-prot@0.5", "sliced"),
    "padded": ("scar-prot@0.5", "padded"),
    "global": ("scar-prot@0.5+global", "auto"),
    "dense": ("dense", "auto"),
}


def run(lode, work, name, models, extra):
    """Runs an experiment over (name, path) models."""
    listed = ", ".join(f'{{ name = "{n}"; path = "{p}"; }}' for n, p in models)
    config = work / f"{name}.cfg"
    config.write_text(
        f'name = "{name}"; results = "{work}/results"; models = ({listed});\n'
        "calibration = { "
        f'corpus = "{work}/corpus.txt"; sequences = 8; max_length = 128; keep_logits = 1; }};\n'
        + extra
    )
    subprocess.run([lode, "run", config], check=True, stdin=subprocess.DEVNULL)


def logits_of(model, ids):
    with torch.no_grad():
        return model(torch.from_numpy(ids.astype(np.int64))[None]).logits[0].float().numpy()


def mask(model, kept):
    """Removes channels of a dense model the other way: by zeros in the down projection."""
    for layer, channels in zip(model.model.layers, kept):
        removed = np.setdiff1d(np.arange(layer.mlp.down_proj.weight.shape[1]), channels)
        with torch.no_grad():
            layer.mlp.down_proj.weight[:, removed] = 0


def load(path):
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()


def check_model(lode, data, name):
    worst = 0.0
    source = data / "models" / name
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        (work / "corpus.txt").write_text("".join(
            (data / "corpora" / "tinystories-calibration.txt").open().readlines()[:8]))
        exports = ", ".join(
            f'{{ variant = "{v}"; layout = "{layout}"; path = "{work}/{key}"; }}'
            for key, (v, layout) in VARIANTS.items())
        run(lode, work, "source", [("m", source)],
            'prune = { methods = ["scar-prot"]; sparsity = (0.5); '
            f'allocation = ["uniform", "global"]; }};\nexport = ({exports});\n')
        run(lode, work, "again", [(key, work / key) for key in VARIANTS],
            "prune = { methods = []; };\n")
        for key in VARIANTS:
            with h5py.File(work / "results/again" / key / "calibrate.h5") as file:
                ours = file["logits"][:]
            with h5py.File(work / "results/again" / key / "tokenize.h5") as file:
                ids = file["calibration/ids"][: len(ours)]
            note = json.loads((work / key / "lodestone.json").read_text())
            theirs = logits_of(load(work / key), ids)
            masked = load(source)
            mask(masked, note["kept"])
            differences = [float(np.abs(a - theirs).max())
                           for a in (ours, logits_of(masked, ids))]
            print(f"{name} {key}: width {note['intermediate_size']}, logits differ from lode's by "
                  f"{differences[0]:.2g}, from the masked source's by {differences[1]:.2g}")
            worst = max(worst, *differences)
    return worst


def main():
    lode, data = sys.argv[1], pathlib.Path(sys.argv[2]).resolve()
    names = sys.argv[3:] or ["stories260k", "babyllama105", "books3m"]
    worst = max(check_model(lode, data, name) for name in names)
    print(f"largest difference {worst:.2g}, allowed {TOLERANCE:g}")
    return 0 if worst <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
