"""A Llama model in numpy float64, forward and backward to u, written out by hand.

Shapes: B sequences of T tokens, d hidden, m FFN channels, H query heads, G key-value heads, e head
size, V vocabulary. Weights keep the checkpoint's orientation, [outputs, inputs]. Nothing is shared
with the program under test: this is what it is compared with.
"""
import json
import math
import os
import struct

import numpy as np


def read_safetensors(path):
    """All tensors of one .safetensors file, as float64."""
    with open(path, "rb") as file:
        (header_size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(header_size))
        data = file.read()
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        raw = data[begin:end]
        if entry["dtype"] == "BF16":  # the upper half of a float32
            words = np.frombuffer(raw, "<u2").astype(np.uint32) << 16
            values = words.view(np.float32)
        else:
            values = np.frombuffer(raw, {"F16": "<f2", "F32": "<f4", "F64": "<f8"}[entry["dtype"]])
        tensors[name] = values.astype(np.float64).reshape(entry["shape"])
    return tensors


def silu(x):
    return x / (1.0 + np.exp(-x))


def silu_derivative(x):
    s = 1.0 / (1.0 + np.exp(-x))
    return s * (1.0 + x * (1.0 - s))


def rms_norm(x, weight, epsilon):
    """Returns the normed x and 1/rms, which the backward pass needs again."""
    inverse = 1.0 / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + epsilon)
    return x * inverse * weight, inverse


def rms_norm_backward(dy, x, weight, inverse):
    dn = dy * weight
    return inverse * dn - x * inverse**3 * np.mean(dn * x, axis=-1, keepdims=True)


def rotate(x, cosine, sine):
    """Rotary embedding of x[B,heads,T,e]: dimension i is paired with i + e/2."""
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * cosine - b * sine, b * cosine + a * sine], axis=-1)


class Llama:
    def __init__(self, folder):
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
            self.config = config = json.load(file)
        if config["model_type"] != "llama" or config.get("rope_scaling") is not None:
            raise SystemExit(f"{folder}: the reference knows plain Llama models only")
        self.tensors = read_safetensors(os.path.join(folder, "model.safetensors"))
        self.layers = config["num_hidden_layers"]
        self.heads = config["num_attention_heads"]
        self.groups = config["num_key_value_heads"]
        self.head_size = config.get("head_dim") or config["hidden_size"] // self.heads
        self.epsilon = config["rms_norm_eps"]
        self.embedding = self.tensors["model.embed_tokens.weight"]  # [V,d]
        self.output = self.tensors.get("lm_head.weight", self.embedding)
        self.final_norm = self.tensors["model.norm.weight"]

    def layer(self, index):
        """The weights of one layer, by short name."""
        prefix = f"model.layers.{index}."
        names = {
            "norm1": "input_layernorm", "q": "self_attn.q_proj", "k": "self_attn.k_proj",
            "v": "self_attn.v_proj", "o": "self_attn.o_proj",
            "norm2": "post_attention_layernorm", "gate": "mlp.gate_proj", "up": "mlp.up_proj",
            "down": "mlp.down_proj",
        }
        return {short: self.tensors[prefix + name + ".weight"] for short, name in names.items()}

    def split(self, x, heads):
        return x.reshape(*x.shape[:2], heads, self.head_size).transpose(0, 2, 1, 3)

    def merge(self, x):
        return x.transpose(0, 2, 1, 3).reshape(x.shape[0], x.shape[2], -1)

    def rotary(self, length):
        half = np.arange(self.head_size // 2)
        frequency = self.config["rope_theta"] ** (-2.0 * half / self.head_size)
        angle = np.arange(length)[:, None] * frequency
        return np.cos(angle), np.sin(angle)

    def attention(self, x, w):
        """x[B,T,d] -> (output [B,T,d], what the backward pass needs)."""
        cosine, sine = self.rotary(x.shape[1])
        repeat = self.heads // self.groups
        q = rotate(self.split(x @ w["q"].T, self.heads), cosine, sine)
        k = rotate(self.split(x @ w["k"].T, self.groups), cosine, sine).repeat(repeat, axis=1)
        v = self.split(x @ w["v"].T, self.groups).repeat(repeat, axis=1)
        logits = q @ k.swapaxes(2, 3) / math.sqrt(self.head_size)
        logits[..., np.triu(np.ones((x.shape[1],) * 2, bool), 1)] = -np.inf
        p = np.exp(logits - logits.max(axis=-1, keepdims=True))
        p /= p.sum(axis=-1, keepdims=True)
        return self.merge(p @ v) @ w["o"].T, (q, k, v, p)

    def attention_backward(self, dy, saved, w):
        """dL/dx[B,T,d] of attention()."""
        q, k, v, p = saved
        cosine, sine = self.rotary(dy.shape[1])
        context = self.split(dy @ w["o"], self.heads)
        dp = context @ v.swapaxes(2, 3)
        ds = p * (dp - np.sum(dp * p, axis=-1, keepdims=True)) / math.sqrt(self.head_size)

        def fold(x):  # the repeated heads of one group share their key and value
            return x.reshape(x.shape[0], self.groups, -1, *x.shape[2:]).sum(axis=2)

        # the transpose of a rotation turns the other way
        dq = rotate(ds @ k, cosine, -sine)
        dk = rotate(fold(ds.swapaxes(2, 3) @ q), cosine, -sine)
        dv = fold(p.swapaxes(2, 3) @ context)
        return self.merge(dq) @ w["q"] + self.merge(dk) @ w["k"] + self.merge(dv) @ w["v"]

    def attended(self, x, w):
        """The input of a layer's feed-forward block before its norm, [B,T,d]."""
        normed, _ = rms_norm(x, w["norm1"], self.epsilon)
        return x + self.attention(normed, w)[0]

    def channels(self, middle, w, kept=slice(None)):
        """u[B,T,kept] of attended()'s result."""
        h, _ = rms_norm(middle, w["norm2"], self.epsilon)
        return silu(h @ w["gate"][kept].T) * (h @ w["up"][kept].T)

    def activations(self, ids, keep=None, down=None):
        """h[B,T,d] and u[B,T,m] of every layer; layers of which `down` has no entry keep all they
        have, the others are edited as in forward()."""
        x, hs, us = self.embedding[ids], [], []
        for index in range(self.layers):
            w = self.layer(index)
            middle = self.attended(x, w)
            hs.append(rms_norm(middle, w["norm2"], self.epsilon)[0])
            us.append(self.channels(middle, w))
            edited = down is not None and index < len(down)
            x = middle + (us[-1][..., keep[index] == 1] @ down[index].T if edited
                          else us[-1] @ w["down"].T)
        return hs, us

    def forward(self, ids, keep=None, down=None, bias=None):
        """Logits [B,T,V] of ids[B,T].

        keep[L,m], where given, cuts channels out; down[l], where given, replaces the kept columns
        of a layer's down projection; bias[L,d], where given, is added to a block's output.
        """
        x = self.embedding[ids]
        for index in range(self.layers):
            w = self.layer(index)
            x = self.attended(x, w)
            kept = slice(None) if keep is None else keep[index].astype(bool)
            u = self.channels(x, w, kept)
            x = x + u @ (w["down"][:, kept] if down is None else down[index]).T
            if bias is not None:
                x = x + bias[index]
        return rms_norm(x, self.final_norm, self.epsilon)[0] @ self.output.T

    def forward_backward(self, ids):
        """One sequence ids[T]. Returns logits [T,V] and per layer h[T,d], u[T,m], g[T,m], where
        g = dL/du for L = the sum of the next-token cross-entropies."""
        x = self.embedding[ids][None]
        tape = []
        for index in range(self.layers):
            w = self.layer(index)
            normed, inverse1 = rms_norm(x, w["norm1"], self.epsilon)
            attended, saved = self.attention(normed, w)
            middle = x + attended
            h, inverse2 = rms_norm(middle, w["norm2"], self.epsilon)
            a, b = h @ w["gate"].T, h @ w["up"].T
            u = silu(a) * b
            tape.append((x, inverse1, saved, middle, inverse2, h, a, b, u))
            x = middle + u @ w["down"].T
        normed, inverse = rms_norm(x, self.final_norm, self.epsilon)
        logits = normed @ self.output.T

        dlogits = np.zeros_like(logits)  # the last position predicts nothing
        shifted = np.exp(logits[:, :-1] - logits[:, :-1].max(axis=-1, keepdims=True))
        dlogits[:, :-1] = shifted / shifted.sum(axis=-1, keepdims=True)
        dlogits[0, np.arange(len(ids) - 1), ids[1:]] -= 1.0
        dx = rms_norm_backward(dlogits @ self.output, x, self.final_norm, inverse)

        hs, us, gs = [], [], []
        for index in reversed(range(self.layers)):
            w = self.layer(index)
            x, inverse1, saved, middle, inverse2, h, a, b, u = tape[index]
            g = dx @ w["down"]
            dh = (g * b * silu_derivative(a)) @ w["gate"] + (g * silu(a)) @ w["up"]
            dx = dx + rms_norm_backward(dh, middle, w["norm2"], inverse2)
            dnormed = self.attention_backward(dx, saved, w)
            dx = dx + rms_norm_backward(dnormed, x, w["norm1"], inverse1)
            hs.insert(0, h[0])
            us.insert(0, u[0])
            gs.insert(0, g[0])
        return logits[0], hs, us, gs
