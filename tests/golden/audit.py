#!/usr/bin/env python3
"""What the stage audit should find of two versions of the embedded model, in float64.

    audit.py

writes audit.changes, a list of changes that tests/stages/alter.c makes of the model's folder, and
audit.h5: the figures of stages/audit/audit.h for the version with these changes ("altered") and for
the one that keeps the channels of scar-prot@0.5 alone ("sliced"), with the settings of
tests/stages/audit.sh, and core and halo of the original. Statistics, classes and masks are those of
reference.py, figures are written from their definitions. Needs numpy, h5py and tokenizers.
"""
import argparse
import copy
import os

import h5py
import numpy as np

import reference
from llama import Llama

HERE = os.path.dirname(os.path.abspath(__file__))
QUICKSTART = os.path.join(HERE, "../../configs/quickstart")
SEQUENCES, LENGTH, TOKENS, LINES = 8, 64, 64, 25  # calibration, windows and lines of the evaluation
OPTIONS = argparse.Namespace(core=0.01, halo=0.10, write_support=12, top_k=5, signed=False,
                             floor=0.2, power=8.0, loss="mean")
PROJECTIONS = {"gate": "gate_proj", "up": "up_proj", "down": "down_proj"}


def changes_of(classes):
    """(tensor, "row" | "column" | "element", indices, factor): factors that bfloat16 takes exactly."""
    core, halo = classes["core"], classes["halo"]
    rest = [min(set(range(576)) - set(core[l]) - set(halo[l])) for l in range(len(core))]

    def ffn(layer, name):
        return f"model.layers.{layer}.mlp.{PROJECTIONS[name]}.weight"

    return [
        (ffn(0, "down"), "element", [126, 75], -1),  # super weights by the test's easy standards
        (ffn(0, "down"), "element", [181, 75], 0.5),
        (ffn(1, "down"), "column", [core[1][0]], 0),  # a write vector, a gate row, an up row
        (ffn(1, "gate"), "row", [core[1][1]], 0),
        (ffn(1, "up"), "row", [core[1][2]], 0),
        (ffn(2, "gate"), "element", [core[2][0], 3], 2),  # single weights of core, halo, rest
        (ffn(2, "down"), "element", [7, halo[2][4]], -1),
        (ffn(2, "up"), "element", [rest[2], 11], 0.5),
        (ffn(3, "down"), "column", [halo[3][0]], 0),  # of the halo, whole channels
        (ffn(3, "gate"), "row", [halo[3][0]], 0),
        (ffn(3, "up"), "row", [halo[3][0]], 0),
        (ffn(4, "down"), "row", [5], 0),  # a dimension that nobody writes any more
        ("model.layers.4.self_attn.q_proj.weight", "row", [9], 0),
        ("model.layers.5.self_attn.k_proj.weight", "column", [2], -1),
        ("model.layers.5.self_attn.o_proj.weight", "element", [1, 2], 0),
    ]


def alter(model, changes):
    other = copy.copy(model)
    other.tensors = {name: tensor.copy() for name, tensor in model.tensors.items()}
    for tensor, kind, at, factor in changes:
        place = {"row": np.s_[at[0], :], "column": np.s_[:, at[0]], "element": tuple(at)}[kind]
        other.tensors[tensor][place] *= factor
    return other


def cut(model, keep):
    other = copy.copy(model)
    other.tensors = dict(model.tensors)
    for layer in range(model.layers):
        kept = keep[layer] == 1
        for short, name in PROJECTIONS.items():
            path = f"model.layers.{layer}.mlp.{name}.weight"
            tensor = model.tensors[path]
            other.tensors[path] = tensor[:, kept] if short == "down" else tensor[kept]
    return other


def whole(weights, kept, channels):
    """A version's block by the original's channels, zeros for what is gone."""
    out = {}
    for name in PROJECTIONS:
        shape = weights[name].shape
        out[name] = np.zeros((shape[0], channels) if name == "down" else (channels, shape[1]))
        out[name][np.s_[:, kept] if name == "down" else kept] = weights[name]
    return out


def vectors(weights):
    """[m, 3d]: gate row, up row, write vector of every channel."""
    return np.concatenate([weights["gate"], weights["up"], weights["down"].T], axis=1)


def compare_weights(model, version, kept, classes, figures):
    for layer in range(model.layers):
        before, after = model.layer(layer), version.layer(layer)
        channels, d = before["up"].shape
        there = np.isin(np.arange(channels), kept[layer])
        old, new = vectors(before), vectors(whole(after, kept[layer], channels))
        zero = (new.reshape(channels, 3, d) == 0).all(axis=2).any(axis=1)
        core, halo = classes["core"][layer], classes["halo"][layer]
        rest = np.setdiff1d(np.arange(channels), np.concatenate([core, halo]))
        figures["core_removed"][layer] = np.mean(~there[core])
        figures["core_zeroed"][layer] = np.mean((there & zero)[core])
        figures["core_changed"][layer] = np.mean((there & (old != new).any(axis=1))[core])
        for name, members in (("core", core), ("halo", halo), ("rest", rest)):
            difference = np.linalg.norm(new[members] - old[members])
            figures[f"weight_error_{name}"][layer] = difference / np.linalg.norm(old[members])
            figures[f"zero_{name}"][layer] = np.mean(new[members] == 0)
        attention = [np.concatenate([w[name].ravel() for name in "qkvo"]) for w in (before, after)]
        figures["weight_error_attention"][layer] = (
            np.linalg.norm(attention[1] - attention[0]) / np.linalg.norm(attention[0]))
        figures["zero_attention"][layer] = np.mean(attention[1] == 0)


def ranks(values):
    """Mean ranks of equal values."""
    order = np.argsort(values, kind="stable")
    out = np.empty(len(values))
    for value in np.unique(values):
        same = order[values[order] == value]
        out[same] = np.mean(np.flatnonzero(values[order] == value))
    return out


def compare_proxies(original, version, kept, classes, figures):
    figures["loss_proxy"][:] = np.nan
    for layer, proxy in enumerate(version):
        figures["loss_proxy"][layer, kept[layer]] = proxy
        now = np.nan_to_num(figures["loss_proxy"][layer])
        core = classes["core"][layer]
        figures["core_mass"][layer] = now[core].sum() / now.sum()
        figures["core_overlap"][layer] = np.mean(np.isin(core, reference.largest(now, len(core))))
        figures["proxy_correlation"][layer] = np.corrcoef(ranks(original[layer][kept[layer]]),
                                                          ranks(proxy))[0, 1]


def audit(model, version, kept, classes, original, sequences, text):
    names = ["core_removed", "core_zeroed", "core_changed", "core_mass", "core_overlap",
             "proxy_correlation"]
    names += [f"{kind}_{name}" for kind in ("weight_error", "zero")
              for name in ("core", "halo", "rest", "attention")]
    figures = {name: np.empty(model.layers) for name in names}
    figures["loss_proxy"] = np.empty(original.shape)
    compare_weights(model, version, kept, classes, figures)
    proxy = reference.Statistics(version, sequences, 0, 0).by_loss["mean"]["loss_proxy"]
    compare_proxies(original, proxy, kept, classes, figures)
    figures["perplexity"] = np.array([reference.perplexity(version, text, TOKENS, "gptq")[0]])
    return figures


def main():
    model = Llama(os.path.join(QUICKSTART, "model"))
    texts = reference.read_texts(os.path.join(QUICKSTART, "text/calibration.txt"), "lines")
    sequences = reference.tokenise(os.path.join(QUICKSTART, "model"), texts, SEQUENCES, LENGTH)
    with open(os.path.join(QUICKSTART, "text/evaluation.txt"), encoding="utf-8") as file:
        lines = "".join(file.readlines()[:LINES]).rstrip("\r\n")
    text = reference.tokenise(os.path.join(QUICKSTART, "model"), [lines], 1, None)[0]
    statistics = reference.Statistics(model, sequences, 8, 256)
    classes = reference.classify(model, statistics, OPTIONS)
    original = statistics.by_loss["mean"]["loss_proxy"]
    changes = changes_of(classes)
    with open(os.path.join(HERE, "audit.changes"), "w", encoding="utf-8") as file:
        for tensor, kind, at, factor in changes:
            file.write(f"{tensor} {kind} {' '.join(str(int(i)) for i in at)} {factor:g}\n")
    scores = np.stack([reference.score_layer("scar-prot", layer, model.layer(layer), statistics,
                                             classes, "mean") for layer in range(model.layers)])
    keep = reference.mask(scores, classes["core"], 0.5)
    every = [np.arange(keep.shape[1])] * model.layers
    some = [np.flatnonzero(row) for row in keep]
    versions = {"altered": (alter(model, changes), every), "sliced": (cut(model, keep), some)}
    with h5py.File(os.path.join(HERE, "audit.h5"), "w") as out:
        def put(path, values):
            out.create_dataset(path, data=values, compression="gzip", shuffle=True)

        put("core", np.asarray(classes["core"], np.int32))
        put("halo", np.asarray(classes["halo"], np.int32))
        put("kept", np.asarray(some, np.int32))
        for name, (version, kept) in versions.items():
            figures = audit(model, version, kept, classes, original, sequences, text)
            for figure, values in figures.items():
                put(f"{name}/{figure}", np.float32(values) if figure == "loss_proxy" else values)


main()
