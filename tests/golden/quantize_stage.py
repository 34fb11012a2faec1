#!/usr/bin/env python3
"""What the stage quantize finds for the embedded model, computed with NumPy.

    quantize_stage.py --model FOLDER --results FOLDER --output OUT.h5

RESULTS is <results>/<name>/<model> of a run of tests/stages/quantize.cfg, of which tokens, loss
proxy, cores and super weights are read, and nothing else. Inputs of the linear layers come from a
float64 forward pass; weights are quantized by quantize.py. For one layer: scales and minima, errors
of all candidates of clipping, SmoothQuant's divisors; for all layers: bits by loss proxy.

Datasets are named as in quantize.h5. Attribute `row`: it is that row of the stage's. Attribute
`tolerance`: relative; 0 where every bit counts.
"""
import argparse
import heapq
import os

import h5py
import numpy as np

from llama import Llama, rms_norm, silu
from quantize import quantize

LAYER = 2
MATRICES = ["q", "k", "v", "o", "gate", "up", "down"]
INPUT = dict(q="attention", k="attention", v="attention", o="output", gate="ffn", up="ffn",
             down="down")
CANDIDATES = [2.0, 4.0, np.inf]  # as in quantize.cfg
SEQUENCES, ALPHA, AVERAGE = 5, 0.5, 4
LEVELS = [2, 3, 4, 5, 6, 7, 8, 16]


# --- the model --------------------------------------------------------------------------------


def inputs_of(model, ids, layer):
    """The four inputs of a layer's linear layers, [tokens, width] each, of one sequence."""
    x = model.embedding[ids][None]
    for index in range(layer + 1):
        w = model.layer(index)
        h1, _ = rms_norm(x, w["norm1"], model.epsilon)
        attended, (_, _, v, p) = model.attention(h1, w)
        o = model.merge(p @ v)
        middle = x + attended
        h2, _ = rms_norm(middle, w["norm2"], model.epsilon)
        u = silu(h2 @ w["gate"].T) * (h2 @ w["up"].T)
        x = middle + u @ w["down"].T
    return dict(attention=h1[0], output=o[0], ffn=h2[0], down=u[0])


def smoothing(inputs, w, readers):
    largest = np.max([np.abs(x).max(axis=0) for x in inputs], axis=0)
    weights = np.max([np.abs(w[name]).max(axis=0) for name in readers], axis=0)
    return np.maximum(largest**ALPHA / np.maximum(weights, 1e-5) ** (1 - ALPHA), 1e-5)


# --- bits by loss proxy -----------------------------------------------------------------------


def relative_errors(w, held):
    """[channels, levels below 16]: of gate rows, up rows and down columns, added up; super weights
    of down, held [(row, column, value)], stay as they are."""
    curve = np.zeros((len(w["gate"]), len(LEVELS) - 1))
    for level, bits in enumerate(LEVELS[:-1]):
        for name, axis in (("gate", 1), ("up", 1), ("down", 0)):
            count = w[name].shape[1 - axis]
            lines = np.full(count, bits)
            case = {"row_bits" if axis == 1 else "col_bits": lines, "clip": np.inf,
                    "dtype": "BF16"}
            if name == "down":
                case["held"] = held
            values = quantize(w[name], case)[3].astype(np.float64)
            curve[:, level] += (np.sum((values - w[name]) ** 2, axis=axis)
                                / np.sum(w[name] ** 2, axis=axis))
    return curve


def distribute(loss_proxy, curve, protected, average):
    """Bits of all channels; what is protected comes first."""
    count = len(loss_proxy)
    level = np.zeros(count, dtype=int)
    left = (average - 2) * count
    order = sorted(np.flatnonzero(protected), key=lambda j: (-loss_proxy[j], j))
    for j in order[: left // 14]:
        level[j] = len(LEVELS) - 1
        left -= 14
    error = np.concatenate([curve, np.zeros((count, 1))], axis=1)

    def best_step(j, room):
        steps = []
        for to in range(level[j] + 1, len(LEVELS)):
            more = LEVELS[to] - LEVELS[level[j]]
            gain = loss_proxy[j] * (error[j, level[j]] - error[j, to]) / more
            if more <= room and gain > 0:
                steps.append((-gain, j, to))
        return min(steps) if steps else None

    heap = [step for step in (best_step(j, 10**9) for j in range(count)) if step]
    heapq.heapify(heap)
    tight = False
    while heap:
        _, j, to = heapq.heappop(heap)
        more = LEVELS[to] - LEVELS[level[j]]
        if more <= left:
            level[j] = to
            left -= more
        else:
            tight = True
        step = best_step(j, left if tight else 10**9)
        if step:
            heapq.heappush(heap, step)
    return np.array(LEVELS)[level]


# --- variants ---------------------------------------------------------------------------------


class Variant:
    def __init__(self, name, granularity=("channel", 0), clip=False, protect=False,
                 smooth=False, mixed=False):
        self.name, self.granularity, self.clip = name, granularity, clip
        self.protect, self.smooth, self.mixed = protect, smooth, mixed

    def case(self, matrix, core, held, bits, s):
        case = dict(bits=AVERAGE, granularity=self.granularity, clip=np.inf, dtype="BF16")
        ffn = {"gate": "row", "up": "row", "down": "col"}.get(matrix)
        if self.mixed and ffn:
            case[ffn + "_bits"] = bits
        elif self.protect and ffn:
            case["keep_" + ffn] = core
        if self.protect and matrix == "down":
            case["held"] = held
        if self.smooth and INPUT[matrix] in s:
            case["smooth"] = s[INPUT[matrix]]
        return case


VARIANTS = [
    Variant("int4-channel"),
    Variant("int4-block-100:both", ("block", 100), protect=True),
    Variant("int4-block-100-clip", ("block", 100), clip=True),
    Variant("int4-channel-clip-a8-token-smooth:both", clip=True, protect=True,
            smooth=True),
    Variant("lp4-channel", mixed=True),
    Variant("lp4-channel-clip:both", clip=True, protect=True, mixed=True),
]


def error_of(inputs, stored, values, s):
    """‖X·(Ŵ − W)ᵀ‖², of the smoothed ones where s is given."""
    if s is not None:
        stored = (stored.astype(np.float32) * s.astype(np.float32)).astype(np.float64)
    difference = values.astype(np.float64) - stored
    return sum(np.sum((x @ difference.T) ** 2) for x in inputs)


def write(out, path, values, tolerance, row=None):
    out[path] = values
    out[path].attrs["tolerance"] = float(tolerance)
    out[path].attrs["row"] = -1.0 if row is None else float(row)


def write_variant(out, variant, w, inputs, core, held, bits, s):
    errors = np.full((len(MATRICES), len(CANDIDATES)), np.nan)
    chosen = np.full(len(MATRICES), np.nan)
    for number, matrix in enumerate(MATRICES):
        case = variant.case(matrix, core, held, bits, s)
        x = inputs[INPUT[matrix]]
        if "smooth" in case:
            x = [rows / case["smooth"] for rows in x]
        best = np.inf
        if variant.clip:
            for c, z in enumerate(CANDIDATES):
                values = quantize(w[matrix], dict(case, clip=z))[3]
                errors[number, c] = error_of(x, w[matrix], values, case.get("smooth"))
            least = errors[number].min()
            best = max(z for c, z in enumerate(CANDIDATES) if errors[number, c] == least)
            chosen[number] = best if np.isfinite(best) else np.nan
        scale, minimum, _, _ = quantize(w[matrix], dict(case, clip=best))
        path = f"variants/{variant.name}/{LAYER}/{matrix}"
        tolerance = 1e-4 if "smooth" in case else 0 if np.isinf(best) else 1e-6
        write(out, f"{path}/scale", scale, tolerance)
        write(out, f"{path}/minimum", minimum, tolerance)
    write(out, f"variants/{variant.name}/z", chosen, 0, LAYER)
    if variant.clip:
        write(out, f"error/{variant.name}", errors, 2e-3 if variant.smooth else 1e-4, LAYER)


def main():
    parser = argparse.ArgumentParser()
    for name in ("model", "results", "output"):
        parser.add_argument("--" + name, required=True)
    arguments = parser.parse_args()
    model = Llama(arguments.model)
    read = lambda name: h5py.File(os.path.join(arguments.results, name + ".h5"))  # noqa: E731
    with read("tokenize") as file:
        ids, offsets = file["calibration/ids"][:], file["calibration/offsets"][:]
    with read("accumulate") as file:
        loss_proxy = file["loss_proxy"][:]
    with read("classify") as file:
        cores = file["core"][:]
    with read("superweight") as file:
        weights = [file["weights/" + name][:] for name in ("layer", "row", "channel", "value")]
    texts = [ids[offsets[s]:offsets[s + 1]] for s in range(min(SEQUENCES, len(offsets) - 1))]
    seen = [inputs_of(model, text, LAYER) for text in texts]
    inputs = {name: [one[name] for one in seen] for name in seen[0]}
    w = model.layer(LAYER)
    s = dict(attention=smoothing(inputs["attention"], w, ["q", "k", "v"]),
             ffn=smoothing(inputs["ffn"], w, ["gate", "up"]))
    layers, channels = loss_proxy.shape
    is_core = np.zeros((layers, channels), dtype=np.uint8)
    for layer in range(layers):
        is_core[layer, cores[layer]] = 1
    def curves(held):
        return np.concatenate([relative_errors(model.layer(layer), held[layer])
                               for layer in range(layers)])
    held = [sorted((row, channel, value) for at, row, channel, value in zip(*weights)
                   if at == layer) for layer in range(layers)]
    assert held[LAYER]
    with h5py.File(arguments.output, "w") as out:
        for name in s:
            write(out, f"smooth/{LAYER}/{name}", s[name].astype(np.float32), 1e-4)
        for variant in VARIANTS:
            bits = None
            if variant.mixed:
                protected = is_core.ravel() if variant.protect else np.zeros(is_core.size)
                curve = curves(held if variant.protect else [[]] * layers)
                bits = distribute(loss_proxy.ravel(), curve, protected, AVERAGE)
                bits = bits.reshape(layers, channels)
                write(out, f"variants/{variant.name}/channel_bits", bits.astype(np.uint8), 0)
                bits = bits[LAYER]
            write_variant(out, variant, w, inputs, is_core[LAYER], held[LAYER], bits, s)


if __name__ == "__main__":
    main()
