#!/usr/bin/env python3
"""Structure of the loss proxy and controls of the halo, computed in float64 without Lodestone's code.

    structure.py model --model FOLDER --calibration FILE --write-support K --output OUT.h5 [...]
    structure.py fixture OUT.h5

`model` runs a model, as reference.py does, and writes what classify.h5 should hold under /structure
and /controls, with the core and halo that it belongs to. `fixture` writes a small made-up layer with
its figures, the input of unit.structure and unit.control. README.md beside this file says more.
"""
import argparse
import math
from types import SimpleNamespace

import h5py
import numpy as np

LEVEL = 0.95

# --- random numbers: SplitMix64, output i of a stream that starts at a hashed key ---------------

WORD = (1 << 64) - 1
INCREMENT = 0x9E3779B97F4A7C15


def mix(word):
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & WORD
    return word ^ (word >> 31)


def stream(seed, purpose, major, minor):
    """The key of a stream: seed, the bytes of the purpose, their number, major and minor."""
    key = 0
    data = purpose.encode()
    for word in [seed, *data, len(data), major, minor]:
        key = mix(((key ^ (word & WORD)) + INCREMENT) & WORD)
    return key


def below(key, counter, bound):
    return (mix((key + (counter + 1) * INCREMENT) & WORD) * bound) >> 64


def draw_times(count, key):
    """How often each of `count` items is in one bootstrap draw."""
    return np.bincount([below(key, i, count) for i in range(count)], minlength=count).astype(float)


def sample(key, count, total):
    """Selection sampling: item i is taken with probability (still wanted) / (still to come)."""
    taken = []
    for i in range(total):
        if len(taken) == count:
            break
        if below(key, i, total - i) < count - len(taken):
            taken.append(i)
    return np.array(taken, dtype=np.int64)


def interval(figures):
    figures = np.asarray(figures)
    figures = figures[~np.isnan(figures)]
    if len(figures) == 0:
        return np.array([np.nan, np.nan])
    tail = 50 * (1 - LEVEL)
    return np.percentile(figures, [tail, 100 - tail])


# --- structure ----------------------------------------------------------------------------------


def largest(values, count):
    return np.argsort(-values, kind="stable")[:count]


def average_ranks(values):
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return ((last - count + 1 + last) / 2)[place]


def spearman(a, b):
    a, b = average_ranks(a), average_ranks(b)
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return np.nan
    return np.corrcoef(a, b)[0, 1]


def gini(values):
    """Half the mean absolute difference over the mean."""
    if values.sum() == 0:
        return np.nan
    return np.abs(values[:, None] - values[None, :]).mean() / (2 * values.mean())


def effective(values):
    share = values[values > 0] / values.sum() if values.sum() > 0 else np.array([])
    return float(np.exp(-(share * np.log(share)).sum())) if len(share) else np.nan


def figures_of(proxy, power, norms, k):
    core, other = set(largest(proxy, k)), set(largest(power, k))
    total = proxy.sum()
    out = {"core_mass": proxy[sorted(core)].sum() / total if total > 0 else np.nan,
           "gini": gini(proxy), "effective_number": effective(proxy),
           "spearman_activation": spearman(proxy, power),
           "jaccard_activation": len(core & other) / len(core | other),
           "overlap_activation": len(core & other) / k}
    for name, norm in norms.items():
        out[f"spearman_{name}_norm"] = spearman(proxy, norm)
    return out, core


def structure(layer, options):
    """layer: proxy, power [m]; proxy_sums, power_sums [S,m]; gate, up, down."""
    norms = {"down": np.sqrt((layer.down**2).sum(axis=0)),
             "up": np.sqrt((layer.up**2).sum(axis=1)),
             "gate": np.sqrt((layer.gate**2).sum(axis=1))}
    out, core = figures_of(layer.proxy, layer.power, norms, options.core_size)
    drawn, stability = [], []
    for i in range(options.draws):
        times = draw_times(len(layer.proxy_sums),
                           stream(options.seed, "bootstrap", layer.index, i))
        proxy = times @ layer.proxy_sums
        if proxy.sum() == 0:
            continue
        figures, other = figures_of(proxy, times @ layer.power_sums, norms, options.core_size)
        drawn.append(figures)
        stability.append(len(core & other) / len(core | other))
    for name in list(out):
        out[f"{name}_interval"] = interval([figures[name] for figures in drawn])
    return out, np.mean(stability), interval(stability)


# --- redundancy and controls --------------------------------------------------------------------


def redundancy(q, a, b, options, nodelens=False):
    """Red of all pairs of two lists of channels, 0 of a channel with itself."""
    left, right = q[:, a] - q[:, a].mean(axis=0), q[:, b] - q[:, b].mean(axis=0)
    covariance = left.T @ right / len(q)
    product = np.outer((left**2).mean(axis=0), (right**2).mean(axis=0))
    if nodelens:
        r = covariance / np.sqrt(product + 1e-8)
    else:
        r = covariance / np.sqrt(np.where(product > 0, product, 1.0))
    r = np.clip(r, -0.9999, 0.9999)
    if not options.signed:
        r = np.maximum(r, 0)
    if nodelens:
        square = r.astype(np.float32) * r.astype(np.float32)
        red = -0.5 * np.log((np.float32(1) - square).astype(np.float64))
    else:
        red = -0.5 * np.log(1 - r * r)
    red[np.equal.outer(np.asarray(a), np.asarray(b))] = 0
    return red


def to_core(q, core, others, options, nodelens=False):
    red = np.sort(redundancy(q, others, core, options, nodelens), axis=1)[:, ::-1]
    return red[:, : options.top_k].mean(axis=1)


def support_of(down, core, count):
    return largest(np.abs(down[:, core]).sum(axis=1), count)


def connectivity_of(down, support):
    whole = np.abs(down).sum(axis=0)
    return np.abs(down[support]).sum(axis=0) / np.where(whole > 0, whole, 1.0)


def halo_of(connectivity, core, count):
    others = np.setdiff1d(np.arange(len(connectivity)), core)
    return others[largest(connectivity[others], count)]


def group_times(count, purpose, layer, options):
    return [draw_times(count, stream(options.seed, purpose, layer, i))
            for i in range(options.draws)]


def mean_of_channels(values, times):
    return values.mean(), interval([t @ values / len(values) for t in times])


def mean_within(pairs, times):
    n = len(pairs)
    if n < 2:
        return np.nan, np.array([np.nan, np.nan])
    drawn = []
    for t in times:
        members = np.repeat(np.arange(n), t.astype(int))  # the draw, channel by channel
        other = members[:, None] != members[None, :]
        drawn.append(pairs[np.ix_(members, members)][other].mean() if other.any() else np.nan)
    return pairs[~np.eye(n, dtype=bool)].mean(), interval(drawn)


def mean_between(pairs, row_times, column_times):
    drawn = [w @ pairs @ v / (w.sum() * v.sum()) for w, v in zip(row_times, column_times)]
    return pairs.mean(), interval(drawn)


def dimensions(down, channels):
    return effective(np.abs(down[:, channels]).sum(axis=1))


def controls(layer, core, halo, options):
    q, down, l, seed = layer.q, layer.down, layer.index, options.seed
    m, k, h = len(layer.proxy), len(core), len(halo)
    rest = np.setdiff1d(np.arange(m), np.concatenate([core, halo]))
    count = min(options.controls, len(rest))
    random = rest[sample(stream(seed, "control channels", l, 0), count, len(rest))]
    halo_times = group_times(h, "bootstrap halo", l, options)
    random_times = group_times(count, "bootstrap random channels", l, options)
    out = {"random": random.astype(np.int32),
           "random_redundancy_to_core": to_core(q, core, random, options),
           "write_dimensions_core": dimensions(down, core),
           "write_dimensions_random": np.array(
               [dimensions(down, sample(stream(seed, "control set", l, i), k, m))
                for i in range(options.draws)])}
    means = {"halo_to_core": mean_of_channels(to_core(q, core, halo, options), halo_times),
             "random_to_core": mean_of_channels(out["random_redundancy_to_core"], random_times),
             "halo_halo": mean_within(redundancy(q, halo, halo, options), halo_times),
             "non_non": mean_within(redundancy(q, random, random, options), random_times),
             "halo_non": mean_between(redundancy(q, halo, random, options), halo_times,
                                      random_times)}
    nothing = np.nan, np.array([np.nan, np.nan])
    means["halo_to_random_core"] = means["random_halo_to_random_core"] = nothing
    out["random_core"], out["random_halo"] = -np.ones(k, np.int32), -np.ones(h, np.int32)
    if len(rest) >= k:
        other = rest[sample(stream(seed, "control core", l, 0), k, len(rest))]
        around = halo_of(connectivity_of(down, support_of(down, other, options.write_support)),
                         other, h)
        out["random_core"], out["random_halo"] = other.astype(np.int32), around.astype(np.int32)
        means["halo_to_random_core"] = mean_of_channels(to_core(q, other, halo, options),
                                                        halo_times)
        means["random_halo_to_random_core"] = mean_of_channels(
            to_core(q, other, around, options),
            group_times(h, "bootstrap random halo", l, options))
    for name, (mean, bounds) in means.items():
        out[name], out[f"{name}_interval"] = mean, bounds
    out["redundancy_to_core_scale_free"] = to_core(q, core, halo, options)
    out["redundancy_to_core_nodelens"] = to_core(q, core, halo, options, nodelens=True)
    return out


def read_connectivity(gate, up, support):
    whole = np.abs(gate).sum(axis=1) + np.abs(up).sum(axis=1)
    return (np.abs(gate[:, support]) + np.abs(up[:, support])).sum(axis=1) / np.where(
        whole > 0, whole, 1.0)


def classify(layers, options):
    """What classify.h5 should hold of layers in their order, {path: rows}."""
    rows, support = {}, None
    for layer in layers:
        m = len(layer.proxy)
        core = largest(layer.proxy, options.core_size)
        before, support = support, support_of(layer.down, core, options.write_support)
        halo = halo_of(connectivity_of(layer.down, support), core, options.halo_size)
        figures, stability, bounds = structure(layer, options)
        found = {"core": core.astype(np.int32), "halo": halo.astype(np.int32),
                 "write_support": support.astype(np.int32),
                 "core_stability": stability, "core_stability_interval": bounds}
        found |= {f"structure/{name}": value for name, value in figures.items()}
        found |= {f"controls/{name}": value
                  for name, value in controls(layer, core, halo, options).items()}
        found["controls/read_connectivity"] = (
            np.full(m, np.nan) if before is None
            else read_connectivity(layer.gate, layer.up, before))
        for path, value in found.items():
            rows.setdefault(path, []).append(value)
    return {path: np.array(values) for path, values in rows.items()}


# --- a model ------------------------------------------------------------------------------------


def run_model(options):
    """The layers of a model with their statistics over the calibration sequences."""
    from llama import Llama
    from reference import read_texts, tokenise

    model = Llama(options.model)
    sequences = tokenise(options.model, read_texts(options.calibration, options.format),
                         options.sequences, options.max_length)
    layers = [SimpleNamespace(index=i, proxy_sums=[], power_sums=[], q=[])
              for i in range(model.layers)]
    for s, ids in enumerate(sequences):
        _, _, us, gs = model.forward_backward(ids)
        for layer, u, g in zip(layers, us, gs):
            q = u * g / (len(ids) - 1)
            layer.proxy_sums.append(0.5 * (q * q).sum(axis=0))
            layer.power_sums.append((u * u).sum(axis=0))
            if s < options.redundancy_sequences:
                layer.q.append(q[: options.redundancy_length])
    for layer in layers:
        weights = model.layer(layer.index)
        layer.gate, layer.up, layer.down = weights["gate"], weights["up"], weights["down"]
        layer.proxy_sums, layer.power_sums = np.array(layer.proxy_sums), np.array(layer.power_sums)
        layer.proxy, layer.power = layer.proxy_sums.sum(axis=0), layer.power_sums.sum(axis=0)
        layer.q = np.concatenate(layer.q)
    m = len(layers[0].proxy)
    options.core_size = max(1, math.floor(options.core * m))
    options.halo_size = max(1, math.floor(options.halo * (m - options.core_size)))
    return layers


def write(path, found):
    with h5py.File(path, "w", libver="latest") as file:
        for name, values in found.items():
            file.create_dataset(name, data=values, track_times=False)


# --- the fixture --------------------------------------------------------------------------------

FIXTURE = SimpleNamespace(seed=7, core_size=5, halo_size=6, write_support=4, controls=9, draws=40,
                          top_k=3, signed=False)


def fixture_layer():
    """A layer with what is awkward: ties, channels without LP, power or weights, a constant one."""
    rng = np.random.default_rng(2604)
    m, d, sequences, tokens = 40, 12, 6, 50
    proxy_sums = rng.lognormal(sigma=2.0, size=(sequences, m))
    power_sums = proxy_sums * rng.lognormal(size=(sequences, m))
    proxy_sums[:, 3] = proxy_sums[:, 4] = 0
    proxy_sums[:, 8] = proxy_sums[:, 9]
    power_sums[:, [3, 20, 21]] = 0
    q = 1e-3 * rng.standard_normal((tokens, m)) + 1e-3 * rng.standard_normal((tokens, 1))
    q[:, 30] = 2e-4
    weights = [rng.standard_normal((m, d)).astype(np.float32) for _ in range(3)]
    for matrix in weights:
        matrix[[11, 12]] = 0
    gate, up, down = weights
    return SimpleNamespace(index=2, proxy_sums=proxy_sums, power_sums=power_sums,
                           proxy=proxy_sums.sum(axis=0), power=power_sums.sum(axis=0),
                           q=q.astype(np.float32), gate=gate, up=up,
                           down=np.ascontiguousarray(down.T))


def make_fixture(path):
    layer = fixture_layer()
    given = {f"input/{name}": getattr(layer, name)
             for name in ("proxy_sums", "power_sums", "q", "gate", "up", "down")}
    for name in ("q", "gate", "up", "down"):
        setattr(layer, name, getattr(layer, name).astype(np.float64))
    found = classify([layer], FIXTURE)
    core, halo, random = (found[name][0] for name in ("core", "halo", "controls/random"))
    found = {name: values[0] for name, values in found.items()
             if name != "controls/read_connectivity"}
    found["read_connectivity"] = read_connectivity(layer.gate, layer.up, found["write_support"])
    for name, a, b in (("halo_halo", halo, halo), ("halo_random", halo, random)):
        found[f"pairs/{name}"] = redundancy(layer.q, a, b, FIXTURE)
    found["pairs/core_halo_nodelens"] = redundancy(layer.q, core, halo, FIXTURE, nodelens=True)
    with h5py.File(path, "w") as file:
        for name, values in (given | found).items():
            file.create_dataset(name, data=values, track_times=False)


# --- the command line ---------------------------------------------------------------------------


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("fixture").add_argument("output")
    add = commands.add_parser("model").add_argument
    add("--model", required=True, help="Hugging Face folder")
    add("--calibration", required=True, help="text file")
    add("--format", choices=["lines", "text"], default="lines", help="of the calibration file")
    add("--sequences", type=int, default=64)
    add("--max-length", type=int, default=256, help="tokens a sequence, BOS included")
    add("--core", type=float, default=0.01)
    add("--halo", type=float, default=0.10)
    add("--write-support", type=int, required=True)
    add("--redundancy-sequences", type=int, default=8)
    add("--redundancy-length", type=int, default=256)
    add("--top-k", type=int, default=5)
    add("--signed", action="store_true", help="positive_only = false")
    add("--controls", type=int, default=256, help="random channels of a layer")
    add("--draws", type=int, default=200)
    add("--seed", type=int, default=42)
    add("--output", required=True)
    return parser.parse_args()


def main():
    options = arguments()
    if options.command == "fixture":
        make_fixture(options.output)
    else:
        write(options.output, classify(run_model(options), options))


if __name__ == "__main__":
    main()
