#!/usr/bin/env python3
"""Training by PyTorch alone: what Lodestone's is compared with.

    tests/golden/train.py steps OUTPUT.h5 [--data ../shared/data]
    tests/golden/train.py curve RESULTS/NAME/MODEL [--steps N] [--output FILE.json]

Needs torch and transformers, and shares no line with the program under test: models are those of
transformers, gradients are autograd's, steps are torch.optim.AdamW's after clip_grad_norm_.

`steps` takes STEPS steps of small models in float64 from their checkpoints' own weights, on blocks of
tokens that it keeps beside the figures of each step: loss, gradient norm, entropy, and of every
tensor after the step its L2 norm and two projections. The same steps in float32 say how much of a
difference is rounding. unit.train_golden compares.

`curve` trains again what a finished run has trained: from the weights of its folder step-000000, with
the blocks of its tokenize.h5 in an order that is made here a second time from the seed, in float32
and in float64; it prints how far the three curves are apart.
"""
import argparse
import json
import math
import os
import sys

import h5py
import numpy as np
import safetensors.torch
import tokenizers
import torch
import transformers

from transformers_model import Widened

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
STEPS, BATCH, LENGTH = 10, 8, 16
MASK, GOLDEN = (1 << 64) - 1, 0x9E3779B97F4A7C15

# Every kind of tensor decays by its own amount, so that none can be taken for another.
SETTING = dict(steps=STEPS, batch=BATCH, length=LENGTH, learning_rate=1e-3, warmup=3, final=0.1,
               decay="cosine", beta1=0.9, beta2=0.95, epsilon=1e-8, matrices=0.1, embeddings=0.05,
               vectors=0.02, weight=0.0, form="absolute", schedule="constant", layers=None)

# name: (folder, share of the first gradient norm at which steps are clipped, settings)
CASES = {
    "llama": ("llama", 0.6, dict(decay="linear")),
    "llama-bias": ("llama-bias", 0.6, {}),
    # The gradient of GPT-2's key biases is 0; a larger epsilon keeps rounding from being a step.
    "gpt2": ("gpt2", 0.6, dict(epsilon=1e-5)),
    "gemma2": ("gemma2", 0.6, {}),
    "olmo": ("olmo", 0.0, {}),
    "olmo2": ("olmo2", 0.6, {}),
    "phi3": ("phi3", 0.6, dict(decay="constant", warmup=0)),
    "qwen3": ("qwen3", 0.6, {}),
    "babyllama105": (None, 0.6, dict(learning_rate=1e-4, epsilon=1e-6)),
    "llama-bias-absolute": ("llama-bias", 0.6, dict(weight=3.0)),
    "llama-bias-square": ("llama-bias", 0.6, dict(weight=3.0, form="square", schedule="linear",
                                                  layers=[1])),
    "llama-bias-softmax": ("llama-bias", 0.6, dict(weight=300.0, form="softmax",
                                                   schedule="cosine")),
    "gpt2-absolute": ("gpt2", 0.6, dict(epsilon=1e-5, weight=1.0, layers=[0])),
    "gpt2-square": ("gpt2", 0.6, dict(epsilon=1e-5, weight=3.0, form="square")),
    "gpt2-softmax": ("gpt2", 0.6, dict(epsilon=1e-5, weight=300.0, form="softmax")),
}


# --- the model -------------------------------------------------------------------------------

class Narrow:
    """What Widened is for float64, for float32: nothing."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


def load(folder, dtype):
    """The model of a folder; its checkpoint holds its parameters exactly."""
    with Widened() if dtype is torch.float64 else Narrow():
        return transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, attn_implementation="eager").eval()


def kind_of(name, parameter):
    if parameter.dim() < 2:
        return "vectors"
    embedding = any(word in name for word in ("embed_tokens", "wte", "wpe", "lm_head"))
    return "embeddings" if embedding else "matrices"


def write_vectors(model):
    """Wdown of every layer as [channels, d]: what a channel writes is a row."""
    if hasattr(model, "transformer"):
        return [block.mlp.c_proj.weight for block in model.transformer.h]
    return [layer.mlp.down_proj.weight.T for layer in model.model.layers]


# --- the loss --------------------------------------------------------------------------------

def entropies(rows, form):
    """H of every row, in nats."""
    size = rows.abs()
    if form == "softmax":
        p = torch.softmax(size, 1)
    else:
        size = size if form == "absolute" else rows**2
        p = size / size.sum(1, keepdim=True)
    return torch.special.entr(p).sum(1)


def mean_entropy(model, setting):
    chosen = write_vectors(model)
    if setting["layers"] is not None:
        chosen = [chosen[layer] for layer in setting["layers"]]
    return torch.stack([entropies(rows, setting["form"]).mean() for rows in chosen]).mean()


def cross_entropy(model, ids):
    """Mean over all targets of ids [batch, length]."""
    with Widened() if model.dtype is torch.float64 else Narrow():
        logits = model(ids, use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


# --- the steps -------------------------------------------------------------------------------

def rate_at(setting, step):
    """Learning rate of step 1 … steps."""
    top, warmup = setting["learning_rate"], setting["warmup"]
    if step <= warmup:
        return top * step / warmup
    x = (step - warmup) / (setting["steps"] - warmup)
    final = setting["final"]
    falls = {"cosine": (1 + math.cos(math.pi * x)) / 2, "linear": 1 - x}
    return top if setting["decay"] == "constant" else \
        top * (final + (1 - final) * falls[setting["decay"]])


def weight_at(setting, step):
    """Weight of the entropy in the loss of a step."""
    x = step / setting["steps"]
    grown = {"constant": 1.0, "linear": x, "cosine": (1 + math.cos(math.pi * x)) / 2}
    return setting["weight"] * grown[setting["schedule"]]


def optimizer_of(model, setting):
    groups = {}
    for name, parameter in model.named_parameters():  # a tied head is there once
        groups.setdefault(kind_of(name, parameter), []).append(parameter)
    return torch.optim.AdamW(
        [dict(params=parameters, weight_decay=setting[kind]) for kind, parameters in groups.items()],
        lr=setting["learning_rate"], betas=(setting["beta1"], setting["beta2"]),
        eps=setting["epsilon"])


def take_step(model, optimizer, setting, step, ids):
    """(cross-entropy, gradient norm before clipping, mean entropy) of a step, before its update."""
    optimizer.zero_grad(set_to_none=True)
    loss = cross_entropy(model, ids)
    entropy = mean_entropy(model, setting) if setting["weight"] else torch.tensor(math.nan)
    (loss + weight_at(setting, step) * entropy if setting["weight"] else loss).backward()
    limit = setting["clip"] or math.inf
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), limit)
    for group in optimizer.param_groups:
        group["lr"] = rate_at(setting, step)
    optimizer.step()
    return loss.item(), norm.item(), entropy.item()


def figures(parameter):
    """L2 norm and two projections of a tensor, its elements as they are stored."""
    w = parameter.detach().double().flatten()
    i = torch.arange(1, w.numel() + 1, dtype=torch.float64)
    return [w.norm().item(), (w * torch.cos(i)).sum().item(), (w * torch.sin(1.7 * i)).sum().item()]


def train(folder, setting, blocks, dtype, steps=0):
    """Figures of every step: loss, gradient norm and entropy [steps], weights [steps, tensors, 3].
    steps: so many of the setting's, 0 for all."""
    model = load(folder, dtype)
    optimizer = optimizer_of(model, setting)
    told, weights = [], []
    for step in range(1, (steps or setting["steps"]) + 1):
        batch = setting["batch"]
        ids = torch.from_numpy(blocks[(step - 1) * batch:step * batch].astype(np.int64))
        told.append(take_step(model, optimizer, setting, step, ids))
        weights.append([figures(p) for _, p in model.named_parameters()])
    names = [name for name, _ in model.named_parameters()]
    return np.array(told), np.array(weights), names


# --- steps -----------------------------------------------------------------------------------

def text_blocks(folder, text):
    """Tokens of all steps: the beginning of a text, cut into blocks."""
    tokenizer = tokenizers.Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    with open(text, encoding="utf-8") as file:
        ids = tokenizer.encode(file.read(5 * STEPS * BATCH * LENGTH)).ids
    return np.array(ids[:STEPS * BATCH * LENGTH], np.int32).reshape(STEPS * BATCH, LENGTH)


def made_blocks(folder, name):
    """Tokens of all steps: of a period, so that there is something to learn, with some noise."""
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        vocabulary = json.load(file)["vocab_size"]
    generator = np.random.default_rng(sum(name.encode()))
    ids = generator.integers(vocabulary, size=(STEPS * BATCH, LENGTH))
    period = generator.integers(vocabulary, size=24)
    start = generator.integers(24, size=(STEPS * BATCH, 1))
    regular = period[(start + np.arange(LENGTH)) % 24]
    return np.where(generator.random(ids.shape) < 0.7, regular, ids).astype(np.int32)


def distance(told, weights, other_told, other_weights):
    """Largest relative differences of loss, norm and entropy, and of weights by their norms."""
    curves = np.nanmax(np.abs(other_told - told) / np.abs(told))
    return curves, np.max(np.abs(other_weights - weights) / weights[..., :1])


def one_case(file, name, data):
    family, share, changes = CASES[name]
    folder = os.path.join(ROOT, "tests/golden/families", family) if family else \
        os.path.join(data, "models", name)
    blocks = made_blocks(folder, name) if family else \
        text_blocks(folder, os.path.join(data, "corpora/tinystories-eval-small.txt"))
    setting = dict(SETTING, clip=0.0, **changes)
    if share:
        first = dict(setting, steps=1)
        setting["clip"] = float(f"{share * train(folder, first, blocks, torch.float64)[0][0, 1]:.3g}")
    told, weights, names = train(folder, setting, blocks, torch.float64)
    rounding = distance(told, weights, *train(folder, setting, blocks, torch.float32)[:2])
    print(f"{name:20} loss {told[0, 0]:.4f} to {told[-1, 0]:.4f}, norm {told[0, 1]:.3f} to "
          f"{told[-1, 1]:.3f} clipped at {setting['clip']}; float32 within {rounding[0]:.1e}, "
          f"weights {rounding[1]:.1e}")
    group = file.create_group(name)
    for key, value in setting.items():
        if key == "layers":
            value = np.array([] if value is None else value, dtype=np.int64)
            group["layers"] = value
        elif isinstance(value, str):
            group.attrs[key] = np.bytes_(value)
        else:
            group.attrs[key] = value
    place = f"tests/golden/families/{family}" if family else f"models/{name}"  # in the data folder
    group.attrs["folder"] = np.bytes_(place)
    group.attrs["rounding_curves"], group.attrs["rounding_weights"] = rounding
    group["ids"] = blocks
    group["loss"], group["gradient_norm"], group["entropy"] = told.T
    group["learning_rate"] = [rate_at(setting, step) for step in range(1, STEPS + 1)]
    group["entropy_weight"] = [weight_at(setting, step) for step in range(1, STEPS + 1)]
    group["names"] = np.frombuffer(("\n".join(names) + "\n").encode(), np.uint8)
    group["weights"] = weights


def steps(options):
    with h5py.File(options.output, "w", libver="latest") as file:
        for name in CASES:
            one_case(file, name, options.data)


# --- curve -----------------------------------------------------------------------------------

def mix(word):
    """The output function of SplitMix64."""
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & MASK
    word = (word ^ word >> 27) * 0x94D049BB133111EB & MASK
    return word ^ word >> 31


def random_key(seed, purpose, major):
    """The key of a stream of random numbers, as base/random.h describes it."""
    key = 0
    for word in [seed & MASK, *purpose.encode(), len(purpose), major, 0]:
        key = mix((key ^ word) + GOLDEN & MASK)
    return key


def permutation(seed, epoch, blocks):
    """Fisher and Yates' shuffle with draw i for place i, from the last place down."""
    key = random_key(seed, "train order", epoch)
    order = list(range(blocks))
    for i in range(blocks - 1, 0, -1):
        other = mix(key + (i + 1) * GOLDEN & MASK) * (i + 1) >> 64
        order[i], order[other] = order[other], order[i]
    return order


def order_of(seed, blocks, count):
    """The first `count` blocks that steps take."""
    taken, epoch = [], 0
    while len(taken) < count:
        taken += permutation(seed, epoch, blocks)
        epoch += 1
    return taken[:count]


def scalars(text):
    """The keys of a resolved experiment, one a line, {"train.length": "128"}; no lists."""
    found, path = {}, []
    for line in text.splitlines():
        name, _, value = line.strip().partition(" = ")
        if value == "{":
            path.append(name)
        elif name == "};":
            path.pop()
        elif value and value[0] not in "([":
            found[".".join([*path, name])] = value.rstrip(";").rstrip("L").strip('"')
    return found


def setting_of(file):
    """The setting of a run, from the experiment in its provenance."""
    keys = scalars(file["provenance"].attrs["experiment"])
    setting = dict(SETTING, seed=int(keys["seed"]), warmup=int(keys["train.warmup"]))
    for name in ("final", "learning_rate", "beta1", "beta2", "epsilon", "clip"):
        setting[name] = float(keys["train." + name])
    for name in ("matrices", "embeddings", "vectors"):
        setting[name] = float(keys["train.weight_decay." + name])
    setting["decay"] = keys["train.decay"]
    setting["weight"] = float(keys["train.entropy.weight"])
    setting["form"] = keys["train.entropy.form"]
    setting["schedule"] = keys["train.entropy.schedule"]
    for name in ("steps", "batch", "length"):
        setting[name] = int(keys["train." + name])
    return setting


def curve(options):
    """Trains again what a run has trained, and compares the losses."""
    with h5py.File(os.path.join(options.folder, "train.h5")) as file:
        ours, norms = file["loss"][:], file["gradient_norm"][:]
        setting = setting_of(file)
    with h5py.File(os.path.join(options.folder, "tokenize.h5")) as file:
        ids = file["train/ids"][:].reshape(-1, setting["length"])
    steps = min(options.steps or setting["steps"], setting["steps"])
    taken = order_of(setting["seed"], len(ids), steps * setting["batch"])
    start = os.path.join(options.folder, "step-000000")
    curves = {"lodestone": (ours[:steps], norms[:steps])}
    for name, dtype in (("float32", torch.float32), ("float64", torch.float64)):
        told = train(start, setting, ids[taken], dtype, steps)[0]
        curves[name] = (told[:, 0], told[:, 1])
    if options.other_seed:
        other = order_of(setting["seed"] + 1, len(ids), steps * setting["batch"])
        told = train(start, setting, ids[other], torch.float32, steps)[0]
        curves["other order"] = (told[:, 0], told[:, 1])
    report = {}
    want, want_norm = curves["float64"]
    print(f"{steps} steps, loss {want[0]:.4f} to {want[-1]:.4f}; beside PyTorch in float64:")
    for name, (loss, norm) in curves.items():
        apart = np.abs(loss - want)
        report[name] = dict(largest=apart.max(), mean=apart.mean(),
                            norm=np.max(np.abs(norm - want_norm) / want_norm))
        print(f"{name:12s} loss apart by {apart.max():.2e} at most, {apart.mean():.2e} on average; "
              f"gradient norm by {report[name]['norm']:.2e} relative")
    if options.output:
        with open(options.output, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("steps")
    command.add_argument("output")
    command.add_argument("--data", default=os.path.join(ROOT, "../shared/data"))
    command = commands.add_parser("curve")
    command.add_argument("folder")
    command.add_argument("--steps", type=int, default=0)
    command.add_argument("--other-seed", action="store_true")
    command.add_argument("--output", default="")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    globals()[options.command](options)


if __name__ == "__main__":
    main()
