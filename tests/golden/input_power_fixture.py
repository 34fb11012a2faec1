#!/usr/bin/env python3
"""Writes input_power.h5: what the goldens lack for wanda-channel, from a float64 forward pass.

usage: input_power_fixture.py DATA OUT.h5

DATA holds models/<name> and golden/<name>.h5. For each model the sequences of the golden go through
the network in float64; <name>/input_power [L, d] is the sum over all sequences and tokens of the
squared normed FFN input, undivided, and attribute `sequences` their number. As a check the
activation power found on the way is compared with the golden's.
"""

import json
import sys

import h5py
import numpy as np

MODELS = ("stories260k", "babyllama105", "books3m")


def read_safetensors(path):
    raw = open(path, "rb").read()
    base = 8 + int.from_bytes(raw[:8], "little")
    tensors = {}
    for name, entry in json.loads(raw[8:base]).items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        data = raw[base + begin : base + end]
        if entry["dtype"] == "BF16":
            values = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            values = np.frombuffer(data, "<f4")
        tensors[name] = values.astype(np.float64).reshape(entry["shape"])
    return tensors


def norm(x, weight, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


def rotate(x, theta):
    half = x.shape[-1] // 2
    angle = np.arange(len(x))[:, None] * theta ** (-np.arange(half) / half)
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


def attention(x, weights, prefix, config):
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    tokens, width = len(x), config["hidden_size"] // heads
    q, k, v = (
        (x @ weights[f"{prefix}{name}_proj.weight"].T).reshape(tokens, -1, width) for name in "qkv"
    )
    q, k = rotate(q, config["rope_theta"]), rotate(k, config["rope_theta"])
    k, v = (np.repeat(a, heads // groups, axis=1) for a in (k, v))
    scores = np.einsum("ihw,jhw->hij", q, k) / np.sqrt(width)
    scores = np.where(np.tri(tokens, dtype=bool), scores, -np.inf)
    p = np.exp(scores - scores.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    return np.einsum("hij,jhw->ihw", p, v).reshape(tokens, -1) @ weights[prefix + "o_proj.weight"].T


def powers(config, weights, sequences):
    layers, eps = config["num_hidden_layers"], config["rms_norm_eps"]
    of_input = np.zeros((layers, config["hidden_size"]))
    of_u = np.zeros((layers, config["intermediate_size"]))
    for ids in sequences:
        x = weights["model.embed_tokens.weight"][ids]
        for layer in range(layers):
            prefix = f"model.layers.{layer}."
            h = norm(x, weights[prefix + "input_layernorm.weight"], eps)
            x = x + attention(h, weights, prefix + "self_attn.", config)
            h = norm(x, weights[prefix + "post_attention_layernorm.weight"], eps)
            gate = h @ weights[prefix + "mlp.gate_proj.weight"].T
            u = gate / (1 + np.exp(-gate)) * (h @ weights[prefix + "mlp.up_proj.weight"].T)
            x = x + u @ weights[prefix + "mlp.down_proj.weight"].T
            of_input[layer] += (h * h).sum(0)
            of_u[layer] += (u * u).sum(0)
    return of_input, of_u


def main():
    data, path = sys.argv[1:]
    with h5py.File(path, "w") as out:
        for name in MODELS:
            config = json.load(open(f"{data}/models/{name}/config.json"))
            weights = read_safetensors(f"{data}/models/{name}/model.safetensors")
            with h5py.File(f"{data}/golden/{name}.h5") as golden:
                ids, lengths = golden["calibration/ids"][:], golden["calibration/lengths"][:]
                expected = golden["loss_mean/activation_power"][:]
            sequences = np.split(ids, np.cumsum(lengths)[:-1])
            of_input, of_u = powers(config, weights, sequences)
            print(name, "activation power, worst relative error",
                  np.abs(of_u / len(ids) / expected - 1).max())
            out[f"{name}/input_power"] = of_input
            out[name].attrs["sequences"] = len(sequences)
            out[name].attrs["tokens"] = len(ids)


if __name__ == "__main__":
    main()
