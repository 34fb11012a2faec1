#!/usr/bin/env python3
"""Reference values for Lodestone's tests, computed in float64 without any of its code.

    reference.py --model FOLDER --calibration FILE --evaluation FILE --output OUT.h5 [...]

writes OUT.h5 and OUT.json; README.md beside this file says what they hold. Needs numpy, h5py and
tokenizers. Set OPENBLAS_NUM_THREADS=1 where other work shares the machine.
"""
import argparse
import json
import math
import os

import h5py
import numpy as np
import tokenizers

from llama import Llama

METHODS = ["scar-lp", "scar-prot", "scar-conn", "lp", "wanda-channel", "magnitude", "activation",
           "taylor", "entropy", "flap", "sparsegpt-channel"]
PROTECTED = {"scar-lp", "scar-prot", "scar-conn"}
STATISTICS = ["loss_proxy", "activation_power", "taylor", "curvature"]


# --- texts ------------------------------------------------------------------------------------


def read_texts(path, form):
    """`lines`: one text a line, blank ones skipped; `text`: one text, trailing newlines dropped."""
    with open(path, encoding="utf-8", newline="") as file:
        text = file.read()
    if form == "text":
        return [text.rstrip("\r\n")]
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return [line for line in lines if line.strip()]


def tokenise(model_folder, texts, sequences, max_length):
    tokenizer = tokenizers.Tokenizer.from_file(os.path.join(model_folder, "tokenizer.json"))
    out = []
    for text in texts:
        ids = tokenizer.encode(text).ids[:max_length]
        if len(ids) >= 2:
            out.append(np.array(ids, np.int32))
        if len(out) == sequences:
            break
    return out


# --- sections 1 to 3: statistics, core, halo --------------------------------------------------


class Statistics:
    """Sums over all calibration tokens; scale[s] turns the sum loss into the one asked for."""

    def __init__(self, model, sequences, redundancy_sequences, redundancy_length):
        self.tokens = sum(len(ids) for ids in sequences)
        self.sequences = len(sequences)
        layers, channels = model.layers, model.layer(0)["up"].shape[0]
        shape = (layers, channels)
        self.by_loss = {loss: {name: np.zeros(shape) for name in STATISTICS}
                        for loss in ("mean", "sum")}
        self.input_power = np.zeros((layers, model.config["hidden_size"]))
        self.output_power = np.zeros(shape)  # sum over tokens of u^2
        self.activation_max = np.zeros(shape)
        self.activation_mean = np.zeros(shape)
        self.second_moment = np.zeros((layers, channels, channels))
        self.input_moment = np.zeros((layers,) + (model.config["hidden_size"],) * 2)
        self.q = [[] for _ in range(layers)]
        for s, ids in enumerate(sequences):
            logits, hs, us, gs = model.forward_backward(ids)
            if s == 0:
                self.logits = logits
            for layer, (h, u, g) in enumerate(zip(hs, us, gs)):
                self.add(layer, h, u, g)
                if s < redundancy_sequences:
                    self.q[layer].append((u * g / (len(ids) - 1))[:redundancy_length])
        for statistics in self.by_loss.values():
            for name in STATISTICS:
                statistics[name] /= self.tokens
        self.activation_mean /= self.tokens
        self.second_moment /= self.tokens
        self.input_moment /= self.tokens

    def add(self, layer, h, u, g):
        for loss, targets in (("mean", len(u) - 1), ("sum", 1)):
            statistics, scaled = self.by_loss[loss], g / targets
            q = u * scaled
            statistics["loss_proxy"][layer] += 0.5 * np.sum(q * q, axis=0)
            statistics["activation_power"][layer] += np.sum(u * u, axis=0)
            statistics["taylor"][layer] += np.sum(np.abs(q), axis=0)
            statistics["curvature"][layer] += np.sum(scaled * scaled, axis=0)
        self.input_power[layer] += np.sum(h * h, axis=0)
        self.output_power[layer] += np.sum(u * u, axis=0)
        self.activation_max[layer] = np.maximum(self.activation_max[layer], np.abs(u).max(axis=0))
        self.activation_mean[layer] += np.sum(u, axis=0)
        self.second_moment[layer] += u.T @ u
        self.input_moment[layer] += h.T @ h


def padded_powers(model, sequences, length):
    """Sums of u^2 [L, m] and h^2 [L, d] over sequences filled up with EOS to `length` tokens."""
    u_power, input_power = 0, 0
    for ids in sequences:
        padded = np.full(length, model.config["eos_token_id"], np.int64)
        padded[: len(ids)] = ids
        hs, us = model.activations(padded[None])
        u_power = u_power + np.stack([np.sum(u * u, axis=(0, 1)) for u in us])
        input_power = input_power + np.stack([np.sum(h * h, axis=(0, 1)) for h in hs])
    return u_power, input_power


def largest(values, count):
    """Indices of the `count` largest, in descending order, equal values by lower index."""
    return np.argsort(-values, kind="stable")[:count]


def redundancy_to_core(q, core, halo, top, positive_only):
    """Mean of each halo channel's `top` largest redundancies to the core, q[tokens,m]."""
    centred = q - q.mean(axis=0)
    norm = np.sqrt(np.sum(centred * centred, axis=0))
    unit = centred / np.where(norm > 0, norm, 1.0)
    r = np.clip(unit[:, halo].T @ unit[:, core], -0.9999, 0.9999)
    if positive_only:
        r = np.maximum(r, 0.0)
    red = -0.5 * np.log(1.0 - r * r)
    return np.sort(red, axis=1)[:, ::-1][:, :top].mean(axis=1)


def classify_layer(loss_proxy, down, q, options):
    channels = len(loss_proxy)
    core = largest(loss_proxy, max(1, math.floor(options.core * channels)))
    written = np.abs(down)
    support = largest(written[:, core].sum(axis=1), options.write_support)
    connectivity = written[support].sum(axis=0) / written.sum(axis=0)
    others = np.setdiff1d(np.arange(channels), core)
    count = max(1, math.floor(options.halo * len(others)))
    halo = others[largest(connectivity[others], count)]
    red = redundancy_to_core(q, core, halo, options.top_k, not options.signed)
    protection = np.ones(channels)
    if len(halo) > 1:
        rank = np.empty(len(halo))
        rank[np.argsort(red, kind="stable")] = np.arange(len(halo)) / (len(halo) - 1)
        protection[halo] = options.floor + (1 - options.floor) * (1 - rank**options.power)
    return {"core": core, "halo": halo, "connectivity": connectivity, "redundancy_to_core": red,
            "protection": protection, "core_mass": loss_proxy[core].sum() / loss_proxy.sum()}


def classify(model, statistics, options):
    layers = [classify_layer(statistics.by_loss[options.loss]["loss_proxy"][layer],
                             model.layer(layer)["down"],
                             np.concatenate(statistics.q[layer]), options)
              for layer in range(model.layers)]
    return {name: np.stack([layer[name] for layer in layers]) for name in layers[0]}


# --- section 4: scores, masks, compensation ---------------------------------------------------


def damped_inverse_diagonal(moment):
    """Diagonal of (moment + 1 % of its mean diagonal)^-1."""
    damped = moment + 0.01 * np.mean(np.diag(moment)) * np.eye(len(moment))
    return np.diag(np.linalg.inv(damped))


def score_layer(method, layer, w, statistics, classes, loss):
    proxy = statistics.by_loss[loss]["loss_proxy"][layer]
    protection, connectivity = classes["protection"][layer], classes["connectivity"][layer]
    rows, down = [w[name] for name in ("gate", "up") if w[name] is not None], w["down"]
    if method in ("scar-lp", "lp"):
        return proxy
    if method == "scar-prot":
        return proxy * protection
    if method == "scar-conn":
        return proxy * ((1 - connectivity) + connectivity * protection)
    if method == "wanda-channel":
        into = np.sqrt(statistics.input_power[layer] / statistics.sequences)
        middle = np.sqrt(statistics.output_power[layer] / statistics.sequences)
        return sum(np.abs(row) @ into for row in rows) + np.abs(down).sum(axis=0) * middle
    if method == "magnitude":
        return sum(np.linalg.norm(row, axis=1) for row in rows) + np.linalg.norm(down, axis=0)
    if method in ("activation", "taylor"):
        name = "activation_power" if method == "activation" else "taylor"
        return statistics.by_loss[loss][name][layer]
    if method == "entropy":
        p = np.abs(down) / np.abs(down).sum(axis=0)
        return np.sum(p * np.log(np.where(p > 0, p, 1.0)), axis=0)
    if method == "flap":
        mean = statistics.activation_mean[layer]
        variance = statistics.output_power[layer] / statistics.tokens - mean * mean
        return np.maximum(variance, 0.0) * np.sum(down * down, axis=0)
    if method == "sparsegpt-channel":
        into = damped_inverse_diagonal(statistics.input_moment[layer])
        middle = damped_inverse_diagonal(statistics.second_moment[layer])
        return (sum(np.sum(row * row / into, axis=1) for row in rows)
                + np.sum(down * down, axis=0) / middle)
    raise SystemExit(f"--methods: {method} is not one of {', '.join(METHODS)}")


def mask(scores, protected, sparsity):
    """1 = kept; removes the lowest floor(s·m), the lower index first where scores are equal."""
    keep = np.ones(scores.shape, np.uint8)
    remove = math.floor(sparsity * scores.shape[1])
    for layer in range(len(scores)):
        order = np.argsort(scores[layer], kind="stable")
        order = order[~np.isin(order, protected[layer])]
        keep[layer, order[:remove]] = 0
    return keep


def protected_by(core, method, classes, statistics, loss):
    """The protected channels of every layer, [L,k] or [L,0]."""
    if core == "default":
        core = "lp" if method in PROTECTED else "none"
    if core == "none":
        return classes["core"][:, :0]
    if core == "lp":
        return classes["core"]
    power = statistics.by_loss[loss]["activation_power"]
    return np.stack([largest(row, classes["core"].shape[1]) for row in power])


def compensated_down(down, moment, keep, ridge):
    """The down projection [d, kept] that makes up for what was removed from a layer."""
    kept, gone = keep == 1, keep == 0
    system = moment[np.ix_(kept, kept)].copy()
    system[np.diag_indices_from(system)] += ridge * np.mean(np.diag(system))
    lost = down[:, gone] @ moment[np.ix_(gone, kept)]
    return down[:, kept] + np.linalg.solve(system, lost.T).T


def least_squares(model, statistics, keep, ridge):
    """Of every layer, with the second moments of the unpruned model."""
    return [compensated_down(model.layer(layer)["down"], statistics.second_moment[layer],
                             keep[layer], ridge) for layer in range(model.layers)]


def sequential(model, sequences, keep, ridge):
    """Of every layer, with the second moments of the model as changed below it."""
    out = []
    for layer in range(model.layers):
        us = [model.activations(ids[None], keep, out)[1][layer][0] for ids in sequences]
        moment = sum(u.T @ u for u in us) / sum(len(ids) for ids in sequences)
        out.append(compensated_down(model.layer(layer)["down"], moment, keep[layer], ridge))
    return out


def output_bias(model, statistics, keep):
    """The mean output of the removed channels, [L,d]."""
    return np.stack([model.layer(layer)["down"] @ (statistics.activation_mean[layer]
                                                   * (keep[layer] == 0))
                     for layer in range(model.layers)])


def compensate(compensation, model, sequences, statistics, keep, ridge):
    """The arguments of Llama.forward that compensate for `keep`."""
    if compensation == "bias":
        return {"bias": output_bias(model, statistics, keep)}
    if compensation == "least-squares":
        return {"down": least_squares(model, statistics, keep, ridge)}
    if compensation == "sequential":
        return {"down": sequential(model, sequences, keep, ridge)}
    raise SystemExit(f"--compensated: {compensation} is no compensation")


# --- section 7: perplexity --------------------------------------------------------------------


def perplexity(model, ids, length, protocol, keep=None, down=None, bias=None, batch=8):
    """Returns (perplexity, NLL of every scored target in text order, windows)."""
    count = len(ids) // length
    windows = ids[: count * length].reshape(count, length).copy()
    first = 0
    if protocol == "llama.cpp":
        windows[:, 0] = ids[0]  # BOS
        first = length // 2
    nll = np.empty((count, length - 1 - first))
    for begin in range(0, count, batch):
        part = windows[begin : begin + batch]
        logits = model.forward(part, keep, down, bias)[:, first:-1]
        top = logits.max(axis=-1, keepdims=True)
        total = top[..., 0] + np.log(np.exp(logits - top).sum(axis=-1))
        target = np.take_along_axis(logits, part[:, first + 1 :, None], axis=-1)[..., 0]
        nll[begin : begin + len(part)] = total - target
    return math.exp(nll.mean(axis=1).mean()), nll.ravel(), count


def evaluate(model, sequences, statistics, classes, masks, options):
    (ids,) = tokenise(options.model, read_texts(options.evaluation, "text"), 1, None)
    result, nll = {"eval_tokens": len(ids)}, {}
    value, losses, windows = perplexity(model, ids, options.length, "gptq")
    result.update(ppl_gptq_dense=value, ppl_windows=windows, ppl_targets=losses.size)
    nll["dense"] = losses
    value, losses, windows = perplexity(model, ids, options.length, "llama.cpp")
    result.update(ppl_llamacpp_dense=value, ppl_llamacpp_chunks=windows,
                  ppl_llamacpp_targets=losses.size)
    for protocol, key in (("gptq", "ppl_pruned"), ("llama.cpp", "ppl_pruned_llamacpp")):
        if protocol in options.variant_protocols:
            result[key] = {}
            for variant, keep in masks.items():
                value, losses, _ = perplexity(model, ids, options.length, protocol, keep)
                result[key][variant] = value
                nll.setdefault(variant, losses)  # gptq comes first
    keep = np.ones_like(next(iter(masks.values())))
    np.put_along_axis(keep, classes["core"], 0, axis=1)
    result["ppl_core_removed"] = perplexity(model, ids, options.length, "gptq", keep)[0]
    if options.least_squares:
        result["ppl_least_squares"] = {"ridge": options.ridge}
        for variant in options.least_squares:
            keep = masks[variant]
            down = least_squares(model, statistics, keep, options.ridge)
            result["ppl_least_squares"][variant] = perplexity(
                model, ids, options.length, "gptq", keep, down)[0]
    if options.compensated:
        result["ppl_compensated"] = {"ridge": options.ridge}
        for variant in options.compensated:
            name, _, compensation = variant.partition("+")
            edit = compensate(compensation, model, sequences, statistics, masks[name],
                              options.ridge)
            result["ppl_compensated"][variant] = perplexity(
                model, ids, options.length, "gptq", masks[name], **edit)[0]
            if options.edits:
                np.savez(f"{options.edits}-{variant}.npz",
                         **{f"{kind}{layer}": array for kind, arrays in edit.items()
                            for layer, array in enumerate(arrays)})
    return result, nll


# --- files ------------------------------------------------------------------------------------


def write(options, sequences, statistics, padded, classes, scores, masks, result, nll):
    compression = {"compression": "gzip", "compression_opts": 9, "shuffle": True}
    with h5py.File(options.output, "w") as file:
        def put(name, values):
            # The index of a small array's chunks would be larger than what they save.
            file.create_dataset(name, data=values, track_times=False,
                                **(compression if values.nbytes >= 1 << 14 else {}))

        put("calibration/ids", np.concatenate(sequences))
        put("calibration/lengths", np.array([len(ids) for ids in sequences], np.int32))
        put("logits_first_sequence", statistics.logits[: options.logits_rows])
        put("input_power", statistics.input_power)
        put("output_power", statistics.output_power)
        put("padded/u_power", padded[0])
        put("padded/input_power", padded[1])
        put("activation_max", statistics.activation_max)
        put("activation_mean", statistics.activation_mean)
        for loss, arrays in statistics.by_loss.items():
            for name, values in arrays.items():
                put(f"loss_{loss}/{name}", values)
        for name, values in classes.items():
            put(f"classify/{name}", values)
        for name, values in scores.items():
            put(f"scores/{name}", values)
        for variant, keep in masks.items():
            method, _, rest = variant.partition("@")
            sparsity, _, core = rest.partition("~")
            put(f"keep/{method}{'~' + core if core else ''}/{sparsity}", keep)
        if options.nll:
            for variant, losses in nll.items():
                put(f"nll/{variant}", losses)
    base = {"parameters": {
        "sequences": options.sequences, "max_length": options.max_length, "loss": options.loss,
        "core_fraction": options.core, "halo_fraction": options.halo,
        "write_support": options.write_support, "eval_length": options.length,
        "calibration": os.path.basename(options.calibration),
        "evaluation": os.path.basename(options.evaluation)},
        "tokens": statistics.tokens,
        "core_mass_median": float(np.median(classes["core_mass"]))}
    with open(os.path.splitext(options.output)[0] + ".json", "w", encoding="utf-8") as file:
        json.dump(base | result, file, indent=1)
        file.write("\n")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--model", required=True, help="Hugging Face folder")
    add("--transformers", action="store_true",
        help="through transformers and torch, which know more models than llama.py")
    add("--calibration", required=True, help="text file")
    add("--format", choices=["lines", "text"], default="lines", help="of the calibration file")
    add("--sequences", type=int, default=64)
    add("--max-length", type=int, default=256, help="tokens a sequence, BOS included")
    add("--loss", choices=["mean", "sum"], default="mean", help="of classes, scores and masks")
    add("--core", type=float, default=0.01)
    add("--halo", type=float, default=0.10)
    add("--write-support", type=int, required=True)
    add("--redundancy-sequences", type=int, default=8)
    add("--redundancy-length", type=int, default=256)
    add("--top-k", type=int, default=5)
    add("--signed", action="store_true", help="positive_only = false")
    add("--floor", type=float, default=0.2)
    add("--power", type=float, default=8.0)
    add("--methods", nargs="+", default=METHODS)
    add("--cores", nargs="+", choices=["default", "lp", "activation", "none"],
        default=["default"])
    add("--sparsity", type=float, nargs="+", default=[0.25, 0.5])
    add("--evaluation", required=True, help="text file")
    add("--length", type=int, default=256, help="tokens of an evaluation window")
    add("--variant-protocols", nargs="*", choices=["gptq", "llama.cpp"], default=["gptq"],
        help="perplexities of the pruned models; the dense one gets both")
    add("--least-squares", nargs="*", default=[], metavar="VARIANT",
        help="also with least-squares compensation")
    add("--compensated", nargs="*", default=[], metavar="VARIANT+COMPENSATION",
        help="also compensated: +bias, +least-squares or +sequential")
    add("--edits", metavar="PREFIX", help="store what these change as PREFIX-VARIANT….npz")
    add("--ridge", type=float, default=1e-3)
    add("--logits-rows", type=int, help="store this many positions of logits_first_sequence")
    add("--nll", action="store_true", help="also store the NLL of every target")
    add("--output", required=True, help="OUT.h5; OUT.json goes beside it")
    return parser.parse_args()


def main():
    options = arguments()
    if options.transformers:
        from transformers_model import TransformersModel

        model = TransformersModel(options.model)
    else:
        model = Llama(options.model)
    sequences = tokenise(options.model, read_texts(options.calibration, options.format),
                         options.sequences, options.max_length)
    statistics = Statistics(model, sequences, options.redundancy_sequences,
                            options.redundancy_length)
    classes = classify(model, statistics, options)
    scores, masks = {}, {}
    for method in options.methods:
        scores[method] = np.stack([
            score_layer(method, layer, model.layer(layer), statistics, classes, options.loss)
            for layer in range(model.layers)])
        own = "lp" if method in PROTECTED else "none"
        for core in options.cores:
            protected = protected_by(core, method, classes, statistics, options.loss)
            for sparsity in options.sparsity:
                suffix = "" if core in ("default", own) else "~" + core
                masks[f"{method}@{sparsity:g}{suffix}"] = mask(scores[method], protected, sparsity)
    result, nll = evaluate(model, sequences, statistics, classes, masks, options)
    padded = padded_powers(model, sequences, options.max_length)
    write(options, sequences, statistics, padded, classes, scores, masks, result, nll)


if __name__ == "__main__":
    main()
