#!/usr/bin/env python3
"""Causal checks in float64: what probe.h5 should say.

    probe.py --model FOLDER [--transformers] --results FOLDER --output OUT.h5

RESULTS is <results>/<name>/<model> of a run of tests/stages/probe.cfg. What was drawn at random is
read from its probe.h5, and refused where it breaks the rules of pipeline/score/probe.h; what that
does to the loss is computed here, with u set to 0 or to its mean in a full forward pass. Needs
numpy, scipy and h5py.
"""
import argparse
import os

import h5py
import numpy as np
import scipy.stats

from llama import Llama, rms_norm, silu

CHECKS = ["dose_response", "random_cores", "score_core", "ablation", "halo_ablation",
          "mean_replacement"]


class Model(Llama):
    def layers_from(self, x, first, edits, seen=None):
        """Hidden states x[B,T,d] through layers first ... with edits {layer: (channels, values)};
        `seen` gets u of every layer."""
        for index in range(first, self.layers):
            w = self.layer(index)
            normed, _ = rms_norm(x, w["norm1"], self.epsilon)
            x = x + self.attention(normed, w)[0]
            h, _ = rms_norm(x, w["norm2"], self.epsilon)
            u = silu(h @ w["gate"].T) * (h @ w["up"].T)
            if index in edits:
                channels, values = edits[index]
                u[..., channels] = values
            if seen is not None:
                seen.append(u)
            x = x + u @ w["down"].T
        return x

    def nll(self, ids, edits, first_scored=0):
        """Negative log-likelihoods of the next tokens of ids[T] from first_scored on."""
        x = self.layers_from(self.embedding[ids][None], 0, edits)[0]
        logits = rms_norm(x, self.final_norm, self.epsilon)[0] @ self.output.T
        logits = logits[first_scored:-1]
        top = logits.max(axis=1)
        total = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
        return total - logits[np.arange(len(logits)), ids[first_scored + 1:]]


# --- texts ------------------------------------------------------------------------------------


def windows(tokenize, probe):
    text = probe["texts/perplexity"].attrs
    assert text["protocol"] == "gptq"
    ids = tokenize[f"perplexity/{text['source']}/ids"][:]
    count = len(ids) // text["length"]
    return list(ids[: count * text["length"]].reshape(count, -1))


def sequences(tokenize, text):
    name = "probe" if text["source"] == "corpus" else "calibration"
    ids, offsets = tokenize[f"{name}/ids"][:], tokenize[f"{name}/offsets"][:]
    return [ids[offsets[s]:offsets[s + 1]][: text["length"]] for s in range(text["sequences"])]


def mean_activation(model, tokenize):
    ids, offsets = tokenize["calibration/ids"][:], tokenize["calibration/offsets"][:]
    total = 0
    for s in range(len(offsets) - 1):
        seen = []
        model.layers_from(model.embedding[ids[offsets[s]:offsets[s + 1]]][None], 0, {}, seen)
        total = total + np.array([u[0].sum(axis=0) for u in seen])
    return total / len(ids)


def mean_activation_of(model, tokenize):
    """The same of a TransformersModel."""
    ids, offsets = tokenize["calibration/ids"][:], tokenize["calibration/offsets"][:]
    total = 0
    for s in range(len(offsets) - 1):
        _, us = model.activations(ids[None, offsets[s]:offsets[s + 1]])
        total = total + np.array([u[0].sum(axis=0) for u in us])
    return total / len(ids)


# --- what was drawn ---------------------------------------------------------------------------


def bins_of(values, bins):
    """Quantile bin of each value: equally many in each, by rank."""
    order = np.argsort(values, kind="stable")
    bin_of = np.empty(len(values), int)
    for b in range(bins):
        bin_of[order[b * len(values) // bins:(b + 1) * len(values) // bins]] = b
    return bin_of


def ranking_mask(score, protected, removed):
    keep = np.ones(len(score), np.uint8)
    order = [j for j in np.argsort(score, kind="stable") if j not in protected]
    keep[order[:removed]] = 0
    return keep


def check_masks(probe, proxy, power, core):
    layers, channels = proxy.shape
    size, removed = core.shape[1], int(np.floor(0.5 * channels))
    top = [np.argsort(-power[l], kind="stable")[:size] for l in range(layers)]
    dose, cores, pairs = probe["dose_response"], probe["random_cores"], probe["score_core"]
    for c in range(len(dose["rate"])):
        gone = int(np.floor(dose["rate"][c] * size))
        assert dose["core_removed"][c] == gone
        for l in range(layers):
            assert (dose["keep"][c, l] == 0).sum() == removed
            assert (dose["keep"][c, l][core[l]] == 0).sum() == gone
    lowest = [ranking_mask(proxy[l], (), removed) for l in range(layers)]
    for c, l in np.ndindex(len(cores["core"]), layers):
        keep, kind = cores["keep"][c, l], cores["core"][c]
        assert (keep == 0).sum() == removed and kind in (0, 2, 3)
        if kind < 3:
            assert (keep == ranking_mask(proxy[l], core[l] if kind == 0 else (), removed)).all()
        else:  # what a random core keeps pushes the next lowest out, one for one
            assert ((keep == 1) & (lowest[l] == 0)).sum() <= size
    for c, l in np.ndindex(len(pairs["score"]), layers):
        score = (proxy, power)[pairs["score"][c]][l]
        kept = {0: core[l], 1: top[l], 2: ()}[pairs["core"][c]]
        assert (pairs["keep"][c, l] == ranking_mask(score, kept, removed)).all()


def check_ablation(group, proxy, bins, step):
    for l in range(0, len(proxy), step):
        here = group["layer"][:] == l
        channels, bin_of = group["channel"][:][here], bins_of(proxy[l], bins)
        assert len(set(channels)) == len(channels)
        assert (group["bin"][:][here] == bin_of[channels]).all()
        assert (np.bincount(group["bin"][:][here], minlength=bins) == len(channels) // bins).all()
        assert (group["loss_proxy"][:][here] == proxy[l][channels]).all()


def check_halo(group, proxy, core, halo):
    for c in range(len(group["layer"])):
        l, kind = group["layer"][c], group["kind"][c]
        channels = group["channels"][c][group["channels"][c] >= 0]
        count, outside = core.shape[1], np.setdiff1d(np.arange(proxy.shape[1]), core[l])
        decile = np.full(proxy.shape[1], -1)
        decile[outside] = bins_of(proxy[l][outside], 10)
        if kind in (2, 3, 4):
            assert (channels[:count] == core[l]).all()
            channels = channels[count:]
        if kind in (0, 3):
            assert (channels == halo[l][:count]).all()
        if kind in (1, 4):
            assert len(set(channels)) == count
            assert not set(channels) & (set(core[l]) | set(halo[l]))
            assert (np.sort(decile[channels]) == np.sort(decile[halo[l][:count]])).all()


def check_sets(group, power, core):
    for l in range(len(power)):
        top = np.argsort(-power[l], kind="stable")[:core.shape[1]]
        assert (group["sets"][0, l] == core[l]).all() and (group["sets"][1, l] == top).all()
        for drawn in group["sets"][2:, l]:
            assert len(set(drawn)) == len(drawn) and not set(drawn) & (set(core[l]) | set(top))


def check_figures(probe):
    """Figures and rank correlations follow from what the file itself holds."""
    for name in CHECKS:
        group = probe[name]
        text = probe["texts"][group.attrs["texts"]]
        n, dense = text["targets"][:].astype(float), text["dense_nll"][:]
        delta = (group["sequence_nll"][:] - dense) @ n / n.sum()
        assert np.allclose(group["delta_nll"][:], delta, rtol=1e-10, atol=1e-14)
        assert np.allclose(group["perplexity"][:],
                           np.exp(group["sequence_nll"][:] @ n / n.sum()), rtol=1e-12)
    group, table = probe["ablation"], probe["ablation/spearman"]
    for p, l in enumerate(table["layer"][:]):
        here, delta = group["layer"][:] == l, group["delta_nll"][:]
        for name in ("loss_proxy", "activation_power"):
            for kind, values in (("", delta), ("absolute_", np.abs(delta))):
                rho = scipy.stats.spearmanr(values[here], group[name][:][here]).statistic
                assert np.isclose(table[kind + name][p], rho, rtol=1e-12)


# --- what it does -----------------------------------------------------------------------------


def edits_of(group, name, candidate, means):
    if "keep" in group:
        return {l: (np.flatnonzero(keep == 0), 0) for l, keep in enumerate(group["keep"][candidate])}
    layer = group["layer"][candidate]
    if name == "ablation":
        return {layer: (group["channel"][candidate:candidate + 1], 0)}
    if name == "halo_ablation":
        channels = group["channels"][candidate]
        return {layer: (channels[channels >= 0], 0)}
    sets = group["sets"][group["set"][candidate]]
    at = range(len(sets)) if layer < 0 else [layer]
    return {l: (sets[l], means[l][sets[l]] if group["replacement"][candidate] else 0) for l in at}


def measure(model, texts, probe, means, out):
    dense = {name: np.array([model.nll(ids, {}).mean() for ids in text])
             for name, text in texts.items()}
    for name, values in dense.items():
        out[f"texts/{name}/dense_nll"] = values
    for name in CHECKS:
        group, text = probe[name], probe[name].attrs["texts"]
        n = np.array([len(ids) - 1 for ids in texts[text]], float)
        nll = np.array([[model.nll(ids, edits_of(group, name, c, means)).mean()
                         for ids in texts[text]] for c in range(len(group["delta_nll"]))])
        out[f"{name}/perplexity"] = np.exp(nll @ n / n.sum())
        out[f"{name}/delta_nll"] = (nll - dense[text]) @ n / n.sum()
        for column, values in group.items():
            if column in ("keep", "sets", "channels") or (
                    isinstance(values, h5py.Dataset) and values.dtype.kind == "i"):
                out.create_dataset(f"{name}/{column}", data=values[:], compression="gzip")
    correlate(probe["ablation"], out["ablation"])


def correlate(probe, out):
    layers = probe["spearman/layer"][:]
    for name in ("loss_proxy", "activation_power"):
        out["spearman/" + name] = [scipy.stats.spearmanr(
            out["delta_nll"][:][probe["layer"][:] == l],
            probe[name][:][probe["layer"][:] == l]).statistic for l in layers]


def main():
    parser = argparse.ArgumentParser()
    for name in ("model", "results", "output"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--transformers", action="store_true",
                        help="through transformers and torch, which know more models than llama.py")
    options = parser.parse_args()
    if options.transformers:
        from transformers_model import TransformersModel

        model, means_of = TransformersModel(options.model), mean_activation_of
    else:
        model, means_of = Model(options.model), mean_activation
    stage = {name: h5py.File(os.path.join(options.results, name + ".h5"), "r")
             for name in ("tokenize", "calibrate", "accumulate", "classify", "probe")}
    tokenize, probe = stage["tokenize"], stage["probe"]
    proxy, power = stage["accumulate"]["loss_proxy"][:], stage["calibrate"]["activation_power"][:]
    core, halo = stage["classify"]["core"][:], stage["classify"]["halo"][:]
    check_masks(probe, proxy, power, core)
    check_ablation(probe["ablation"], proxy, bins=4, step=2)
    check_halo(probe["halo_ablation"], proxy, core, halo)
    check_sets(probe["mean_replacement"], power, core)
    check_figures(probe)
    texts = {"perplexity": windows(tokenize, probe)}
    for name in ("ablation", "halo"):
        texts[name] = sequences(tokenize, probe["texts"][name].attrs)
    with h5py.File(options.output, "w") as out:
        measure(model, texts, probe, means_of(model, tokenize), out)
    with h5py.File(options.output, "r") as out:
        for name in CHECKS:
            worst = np.abs(out[name]["delta_nll"][:] - probe[name]["delta_nll"][:]).max()
            print(f"{name}: delta_nll differs by {worst:.1e} at most")


if __name__ == "__main__":
    main()
