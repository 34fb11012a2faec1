#!/usr/bin/env python3
"""Holds exported folders against transformers: every model and layout is loaded with
AutoModelForCausalLM in float32, and its logits of the first calibration sequence must be those that
lode computes from the same folder, and, where nothing was compensated or quantized, those of the
source with the removed channels masked. The weights of quantized folders must be what the
parameters beside them say.

    export_check.py LODE DATA [MODEL ...]
    export_check.py LODE --families [CASE ...]

LODE is the program; the models are those of the data folder DATA, or the cases of
tests/golden/families. Needs numpy, h5py, torch and transformers; run by hand.
Exit status: 0 all agree, 1 otherwise.
"""
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import h5py
import numpy as np
import safetensors.torch
import torch
import transformers

transformers.utils.logging.disable_progress_bar()

TOLERANCE = 1e-4  # of the largest logit, where that is above 1
FAMILIES = pathlib.Path(__file__).resolve().parent / "families"
CALIBRATION = FAMILIES.parents[2] / "configs/quickstart/text/calibration.txt"
VARIANTS = {
    "sliced": ("scar-prot@0.5", "sliced"),
    "padded": ("scar-prot@0.5", "padded"),
    "global": ("scar-prot@0.5+global", "auto"),
    "solved": ("scar-prot@0.5+global+least-squares", "auto"),
    "dense": ("dense", "auto"),
    "biased": ("scar-prot@0.5+bias", "auto"),
    "int4": ("int4-group-10:both", "auto"),
    "lp4": ("lp4-block-6:supernode", "auto"),
    "int4-sliced": ("scar-prot@0.5:int4-block-6:supernode", "sliced"),
    "lp4-padded": ("scar-prot@0.5+global:lp4-group-10:both", "padded"),
    "int4-solved": ("scar-prot@0.5+global+least-squares:int4-group-10:both", "auto"),
}
TAKE_BIAS = ("llama", "gpt2")  # the others have no place for an output bias


def run(lode, work, name, models, length, extra):
    """Runs an experiment over (name, path) models."""
    listed = ", ".join(f'{{ name = "{n}"; path = "{p}"; }}' for n, p in models)
    config = work / f"{name}.cfg"
    config.write_text(
        f'name = "{name}"; results = "{work}/results"; models = ({listed});\n'
        "calibration = { "
        f'corpus = "{work}/corpus.txt"; sequences = 8; max_length = {length}; keep_logits = 1; }};\n'
        + extra
    )
    subprocess.run([lode, "run", config], check=True, stdin=subprocess.DEVNULL,
                   stderr=subprocess.PIPE)


def logits_of(model, ids):
    with torch.no_grad():
        return model(torch.from_numpy(ids.astype(np.int64))[None]).logits[0].float().numpy()


def mask(model, kept):
    """Removes channels of a dense model the other way: by zeros in the down projection."""
    body = model.base_model
    for layer, channels in zip(body.h if hasattr(body, "h") else body.layers, kept):
        with torch.no_grad():
            if hasattr(layer.mlp, "c_proj"):  # [channels, d]
                weight = layer.mlp.c_proj.weight
                weight[np.setdiff1d(np.arange(weight.shape[0]), channels)] = 0
            else:
                weight = layer.mlp.down_proj.weight
                weight[:, np.setdiff1d(np.arange(weight.shape[1]), channels)] = 0


def load(path):
    return transformers.AutoModelForCausalLM.from_pretrained(
        path, dtype=torch.float32, attn_implementation="eager").eval()


def blocks_of(granularity, shape):
    """The block of each element of a matrix."""
    rows, columns = shape
    kind, _, size = granularity.partition("-")
    row, column = np.indices(shape)
    if kind == "tensor":
        return np.zeros(shape, int)
    if kind == "channel":
        return row
    if kind == "group":
        return row * -(-columns // int(size)) + column // int(size)
    return (row * columns + column) // int(size) ** 2


def check_parameters(folder):
    """How many matrices quantization.safetensors explains, and how many of their weights it does not.
    A weight is scale·code + minimum in float32, rounded to the folder's type, unless it is kept or
    held."""
    granularity = json.loads((folder / "lodestone.json").read_text())["quantization"]["granularity"]
    transposed = json.loads((folder / "config.json").read_text())["model_type"] == "gpt2"
    weights = {}
    for path in folder.glob("model*.safetensors"):
        weights.update(safetensors.torch.load_file(path))
    beside = safetensors.torch.load_file(folder / "quantization.safetensors")
    matrices, wrong = 0, 0
    for name in [name for name in beside if name.endswith(".codes")]:
        stem = name[: -len(".codes")]
        tensor, _, part = stem.rpartition(".") if stem not in weights else (stem, "", "")
        parameters = {key[len(stem) + 1:]: value.numpy() for key, value in beside.items()
                      if key.startswith(stem + ".") and "." not in key[len(stem) + 1:]}
        weight = weights[tensor].T if transposed else weights[tensor]
        codes = parameters["codes"]
        order = ["gate", "up"] if part in ("gate", "up") else ["q", "k", "v"]
        begin = sum(len(weight) // 2 if part == "up" else len(beside[f"{tensor}.{other}.codes"])
                    for other in order[: order.index(part)]) if part else 0
        block = blocks_of(granularity, codes.shape)
        keep = np.zeros(codes.shape, bool)
        if "row_bits" in parameters:
            block = np.indices(codes.shape)[0]
            keep |= (parameters["row_bits"] == 16)[:, None]
        if "column_bits" in parameters:
            block = np.indices(codes.shape)[1]
            keep |= (parameters["column_bits"] == 16)[None, :]
        keep[parameters.get("kept_rows", [])] = True
        keep[:, parameters.get("kept_columns", [])] = True
        for row, column in parameters.get("held", []):
            keep[row, column] = True
        want = parameters["scale"][block] * codes.astype(np.float32) + parameters["minimum"][block]
        want = torch.from_numpy(want).to(weight.dtype)
        got = weight[begin: begin + codes.shape[0], : codes.shape[1]]
        wrong += int(((got != want).numpy() & ~keep).sum())
        matrices += 1
    return matrices, wrong


def check_model(lode, source, lines, length):
    """The largest difference of any logit, in units of the largest logit of its folder."""
    worst = 0.0
    family = json.loads((source / "config.json").read_text())["model_type"]
    variants = {key: value for key, value in VARIANTS.items()
                if key != "biased" or family in TAKE_BIAS}
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        (work / "corpus.txt").write_text("".join(lines))
        exports = ", ".join(
            f'{{ variant = "{v}"; layout = "{layout}"; path = "{work}/{key}"; '
            f'codes = {"true" if "p4" in v or "t4" in v else "false"}; }}'
            for key, (v, layout) in variants.items())
        run(lode, work, "source", [("m", source)], length,
            'prune = { methods = ["scar-prot"]; sparsity = (0.5); compensation = '
            '["none", "bias", "least-squares"]; allocation = ["uniform", "global"]; };\n'
            'superweight = { prompts = [ "Once upon a time" ]; };\n'
            'quantize = { methods = [ "rtn", "lp" ]; granularity = [ "group-10", "block-6" ]; '
            'protection = [ "supernode", "both" ]; pruned = true; };\n'
            f"export = ({exports});\n")
        run(lode, work, "again", [(key, work / key) for key in variants], length,
            "prune = { methods = []; };\n")
        for key in variants:
            with h5py.File(work / "results/again" / key / "calibrate.h5") as file:
                ours = file["logits"][:]
            with h5py.File(work / "results/again" / key / "tokenize.h5") as file:
                ids = file["calibration/ids"][: len(ours)]
            note = json.loads((work / key / "lodestone.json").read_text())
            theirs = logits_of(load(work / key), ids)
            others = {"lode's": ours}
            if "4" in key:
                matrices, wrong = check_parameters(work / key)
                print(f"{source.name} {key}: {matrices} matrices, {wrong} weights that their "
                      "parameters do not explain")
                worst = max(worst, float(wrong), 0.0 if matrices > 0 else 1.0)
            elif key not in ("solved", "biased"):
                masked = load(source)
                mask(masked, note["kept"])
                others["the masked source's"] = logits_of(masked, ids)
            unit = max(1.0, float(np.abs(theirs).max()))
            differences = {name: float(np.abs(logits - theirs).max()) / unit
                           for name, logits in others.items()}
            said = ", ".join(f"from {name} by {value:.2g}" for name, value in differences.items())
            print(f"{source.name} {key}: width {note['intermediate_size']}, logits differ {said}",
                  flush=True)
            worst = max(worst, *differences.values())
    return worst


def check_family(lode, case):
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder) / case
        shutil.copytree(FAMILIES / case, source)
        shutil.copy(FAMILIES / "tokenizer.json", source)
        return check_model(lode, source, CALIBRATION.open().readlines()[:8], 16)


def main():
    lode, data, names = sys.argv[1], sys.argv[2], sys.argv[3:]
    if data == "--families":
        names = names or sorted(path.parent.name for path in FAMILIES.glob("*/config.json"))
        worst = max(check_family(lode, name) for name in names)
    else:
        data = pathlib.Path(data).resolve()
        lines = (data / "corpora" / "tinystories-calibration.txt").open().readlines()[:8]
        worst = max(check_model(lode, data / "models" / name, lines, 128)
                    for name in names or ["stories260k", "babyllama105", "books3m"])
    print(f"largest difference {worst:.2g}, allowed {TOLERANCE:g}")
    return 0 if worst <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
