#!/usr/bin/env python3
"""Times the accumulation of the loss proxy with Lodestone and with PyTorch, in turn.

    tests/bench/torch_accumulate.py [--shape tinyllama|llama3-8b] [--layers 2] [--tokens 512]
        [--sequences 4] [--threads 1] [--rounds 3] [--clock wall|cpu] [--python PROGRAM]...
        [--model FOLDER] [--memory 12G]

PyTorch is what each PROGRAM imports (this one, unless given); nothing else is needed. It does what
its users write: frozen float32 weights, hooks on down_proj that keep its input u and the gradient
g of that, and the float32 sum of (u*g)^2 / 2 after each backward, a sequence at a time, without
gradients that nobody asks for. Lodestone's stage `accumulate` takes four statistics in float64 and
writes them. Both keep the activations and start from random weights of the shape: those of FOLDER,
or what `lode synthesize` writes.

A time is that of so many sequences less that of one, so that starting and loading do not count.
LODE names the program under test (default: that of build-release). The clock is the wall's;
"cpu" takes the time that the processes compute, for one thread on a busy machine.
"""
import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SHAPES = {
    "tinyllama": dict(hidden_size=2048, intermediate_size=5632, num_attention_heads=32,
                      num_key_value_heads=4, vocab_size=32000),
    "llama3-8b": dict(hidden_size=4096, intermediate_size=14336, num_attention_heads=32,
                      num_key_value_heads=8, vocab_size=128256),
}


# --- PyTorch, in a process of its own --------------------------------------------------------

def build(torch, shape, layers):
    """Layers, embedding and head of a Llama, as modules."""
    nn, functional = torch.nn, torch.nn.functional
    d, m = shape["hidden_size"], shape["intermediate_size"]
    heads, kv_heads = shape["num_attention_heads"], shape["num_key_value_heads"]
    dim = d // heads

    class Norm(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(d))

        def forward(self, x):
            if hasattr(functional, "rms_norm"):
                return functional.rms_norm(x, (d,), self.weight, 1e-5)
            return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.weight

    def turn(x, cosines, sines):
        low, high = x.chunk(2, -1)
        return x * cosines + torch.cat((-high, low), -1) * sines

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention_norm, self.ffn_norm = Norm(), Norm()
            self.q, self.o = nn.Linear(d, d, bias=False), nn.Linear(d, d, bias=False)
            self.k = nn.Linear(d, kv_heads * dim, bias=False)
            self.v = nn.Linear(d, kv_heads * dim, bias=False)
            self.gate, self.up = nn.Linear(d, m, bias=False), nn.Linear(d, m, bias=False)
            self.down_proj = nn.Linear(m, d, bias=False)

        def attend(self, q, k, v):
            k = k.repeat_interleave(heads // kv_heads, 1)
            v = v.repeat_interleave(heads // kv_heads, 1)
            if hasattr(functional, "scaled_dot_product_attention"):
                return functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            scores = q @ k.transpose(-1, -2) * dim**-0.5
            mask = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
            return torch.softmax(scores.masked_fill(mask, float("-inf")), -1) @ v

        def forward(self, x, cosines, sines):
            tokens = x.shape[1]
            h = self.attention_norm(x)
            q = self.q(h).view(1, tokens, heads, dim).transpose(1, 2)
            k = self.k(h).view(1, tokens, kv_heads, dim).transpose(1, 2)
            v = self.v(h).view(1, tokens, kv_heads, dim).transpose(1, 2)
            o = self.attend(turn(q, cosines, sines), turn(k, cosines, sines), v)
            x = x + self.o(o.transpose(1, 2).reshape(1, tokens, d))
            h = self.ffn_norm(x)
            return x + self.down_proj(functional.silu(self.gate(h)) * self.up(h))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(shape["vocab_size"], d)
            self.layers = nn.ModuleList(Layer() for _ in range(layers))
            self.norm = Norm()
            self.head = nn.Linear(d, shape["vocab_size"], bias=False)

        def forward(self, ids):
            positions = torch.arange(ids.shape[1], dtype=torch.float32)
            angles = positions[:, None] * 10000.0 ** (-torch.arange(0, dim, 2) / dim)
            angles = torch.cat((angles, angles), -1)
            cosines, sines = angles.cos(), angles.sin()
            x = self.embedding(ids)
            for layer in self.layers:
                x = layer(x, cosines, sines)
            return self.head(self.norm(x))

    return Model()


def peer(options):
    """Prints the seconds of the sequences after the first one, and the version."""
    import torch
    shape = SHAPES[options.shape]
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model = build(torch, shape, options.layers).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    kept = [None] * options.layers
    proxy = [torch.zeros(shape["intermediate_size"]) for _ in range(options.layers)]

    def keep(index):
        def hook(_module, inputs):
            u = inputs[0]
            if not u.requires_grad:  # nothing before the first one needs a gradient
                u = u.detach().requires_grad_(True)
            kept[index] = u

            def gradient(g):
                q = kept[index].detach() * g
                proxy[index] += 0.5 * q.pow(2).sum((0, 1))
                kept[index] = None
            u.register_hook(gradient)
            return (u,)
        return hook

    for index, layer in enumerate(model.layers):
        layer.down_proj.register_forward_pre_hook(keep(index))

    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    begin = 0.0
    for sequence in range(options.sequences):
        if sequence == 1:
            begin = clock()
        ids = torch.randint(shape["vocab_size"], (1, options.tokens))
        logits = model(ids)
        loss = torch.nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:])
        loss.backward()
    assert all(float(p.sum()) > 0 for p in proxy)
    print(json.dumps({"seconds": clock() - begin, "version": torch.__version__}))


# --- Lodestone -------------------------------------------------------------------------------

def run(command, **more):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, **more)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def synthesize(lode, options, work):
    config = dict(SHAPES[options.shape], architectures=["LlamaForCausalLM"], model_type="llama",
                  num_hidden_layers=options.layers, rms_norm_eps=1e-5, rope_theta=10000.0,
                  max_position_embeddings=8192, hidden_act="silu", tie_word_embeddings=False,
                  torch_dtype="float32")
    folder = os.path.join(work, "shape")
    os.mkdir(folder)
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file)
    run([lode, "synthesize", os.path.join(folder, "config.json"), os.path.join(work, "model"),
         "--dtype", "F32"])
    return os.path.join(work, "model")


def experiment(options, work, model, sequences):
    """An experiment whose calibration has so many sequences, ready but for `accumulate`."""
    text = os.path.join(work, "text.txt")
    with open(text, "w", encoding="utf-8") as file:
        for index in range(options.sequences):
            words = (f"{(index * 7919 + word * 104729) % 99991} " for word in range(options.tokens))
            file.write("".join(words) + "\n")
    path = os.path.join(work, f"{sequences}.cfg")
    with open(path, "w", encoding="utf-8") as file:
        file.write(f'name = "s{sequences}"; results = "{work}/results";\n'
                   f'threads = {options.threads}; memory = "{options.memory}";\n'
                   f'micro_batch = {options.tokens};\n'
                   f'models = ( {{ name = "m"; path = "{model}"; }} );\n'
                   f'calibration = {{ corpus = "{text}"; format = "lines"; '
                   f'sequences = {sequences}; max_length = {options.tokens}; }};\n'
                   'prune = { methods = [ ]; }; evaluate = { };\n')
    return path


def time_stage(lode, options, path):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    run([lode, "run", path, "--stages", "accumulate", "--force"])
    wall = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    computed = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return computed if options.clock == "cpu" else wall


# --- both ------------------------------------------------------------------------------------

def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shape", choices=sorted(SHAPES), default="tinyllama")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--sequences", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--python", action="append", default=[])
    parser.add_argument("--model", default="")
    parser.add_argument("--memory", default="12G")
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.sequences < 2:
        parser.error("--sequences: two or more, since the first is not counted")
    return options


def main():
    options = parse()
    if options.peer:
        peer(options)
        return
    if os.geteuid() == 0:
        os.environ.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    lode = os.environ.get("LODE", os.path.join(ROOT, "build-release", "lode"))
    programs = options.python or [sys.executable]
    tokens = (options.sequences - 1) * options.tokens
    rates = {}
    with tempfile.TemporaryDirectory() as work:
        model = os.path.abspath(options.model) if options.model else synthesize(lode, options, work)
        one = experiment(options, work, model, 1)
        all_of_them = experiment(options, work, model, options.sequences)
        for path in (one, all_of_them):
            run([lode, "run", path, "--stages", "tokenize,calibrate"])
        arguments = [__file__, "--peer"]
        for name in ("shape", "layers", "tokens", "sequences", "threads", "clock"):
            arguments += ["--" + name, str(getattr(options, name))]
        for _ in range(options.rounds):
            base = time_stage(lode, options, one)
            rates.setdefault("lodestone", []).append(
                tokens / (time_stage(lode, options, all_of_them) - base))
            for program in programs:
                told = json.loads(run([program] + arguments))
                rates.setdefault("torch " + told["version"], []).append(tokens / told["seconds"])
    ours = statistics.median(rates["lodestone"])
    print(f"{options.shape}, {options.layers} layers, sequences of {options.tokens} tokens, "
          f"{options.threads} threads, {options.clock} clock")
    for name, values in rates.items():
        median = statistics.median(values)
        print(f"{name:24s} {median:9.1f} tokens/s  ({min(values):.1f} to {max(values):.1f})"
              f"  lodestone is {ours / median:.2f} times as fast")


if __name__ == "__main__":
    main()
