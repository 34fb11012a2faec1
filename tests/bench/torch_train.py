#!/usr/bin/env python3
"""Times steps of training with Lodestone and with PyTorch, step by step in turn.

    tests/bench/torch_train.py [--model configs/quickstart/model] [--layers N] [--batch 16]
        [--length 256] [--threads 1] [--rounds 10] [--clock wall|cpu] [--python PROGRAM]
        [--forms eager,at-once-4,...] [--ours micro-batch=1024,...]

Both train the Llama whose config.json the folder of --model has, from random weights in float32:
`batch` sequences of `length` random tokens a step, AdamW, decay of matrices, gradients clipped. A
step is everything: forward, backward, gradients of weights, their norm, the update.

PyTorch is what PROGRAM imports (this one, unless given), in the forms that its users know to be
fast: attention by scaled_dot_product_attention, fused AdamW, no dropout, the whole batch at once or
four sequences at a time, and compiled where a compiler works. Forms that fail are told and left out.
Lodestone's steps are those of tests/bench/train_speed.c, which is a target of the build
(TRAIN_SPEED, default: that of build-release).

All programs stay loaded and wait while another one works. After two steps each that do not count,
rounds begin; a rate is that of the median step. The clock is the wall's; "cpu" takes the time that
the processes compute, for one thread on a busy machine.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


# --- PyTorch, in a process of its own --------------------------------------------------------

def build(torch, config):
    """The Llama of a config.json, as modules, initialised as the small recipe has it."""
    nn, functional = torch.nn, torch.nn.functional
    d, m = config["hidden_size"], config["intermediate_size"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    depth, dim = config["num_hidden_layers"], d // heads
    grouped = "enable_gqa" in (functional.scaled_dot_product_attention.__doc__ or "")

    def linear(inputs, outputs, deviation=0.02):
        layer = nn.Linear(inputs, outputs, bias=False)
        nn.init.normal_(layer.weight, std=deviation)
        return layer

    def turn(x, cosines, sines):
        low, high = x.chunk(2, -1)
        return x * cosines + torch.cat((-high, low), -1) * sines

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            small = 0.02 / (2 * depth) ** 0.5
            self.attention_norm = nn.RMSNorm(d, config["rms_norm_eps"])
            self.ffn_norm = nn.RMSNorm(d, config["rms_norm_eps"])
            self.q, self.o = linear(d, d), linear(d, d, small)
            self.k, self.v = linear(d, kv_heads * dim), linear(d, kv_heads * dim)
            self.gate, self.up, self.down = linear(d, m), linear(d, m), linear(m, d, small)

        def forward(self, x, cosines, sines):
            batch, tokens, _ = x.shape
            h = self.attention_norm(x)
            q = turn(self.q(h).view(batch, tokens, heads, dim).transpose(1, 2), cosines, sines)
            k = turn(self.k(h).view(batch, tokens, kv_heads, dim).transpose(1, 2), cosines, sines)
            v = self.v(h).view(batch, tokens, kv_heads, dim).transpose(1, 2)
            if grouped:
                o = functional.scaled_dot_product_attention(q, k, v, is_causal=True,
                                                            enable_gqa=True)
            else:
                k = k.repeat_interleave(heads // kv_heads, 1)
                v = v.repeat_interleave(heads // kv_heads, 1)
                o = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.o(o.transpose(1, 2).reshape(batch, tokens, d))
            h = self.ffn_norm(x)
            return x + self.down(functional.silu(self.gate(h)) * self.up(h))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(config["vocab_size"], d)
            nn.init.normal_(self.embedding.weight, std=0.02)
            self.layers = nn.ModuleList(Layer() for _ in range(depth))
            self.norm = nn.RMSNorm(d, config["rms_norm_eps"])
            self.head = linear(d, config["vocab_size"])
            angles = torch.outer(torch.arange(config["length"], dtype=torch.float32),
                                 config["rope_theta"] ** (-torch.arange(0, dim, 2) / dim))
            angles = torch.cat((angles, angles), -1)
            self.register_buffer("cosines", angles.cos())
            self.register_buffer("sines", angles.sin())

        def forward(self, ids):
            x = self.embedding(ids)
            for layer in self.layers:
                x = layer(x, self.cosines, self.sines)
            logits = self.head(self.norm(x))[:, :-1]
            return functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())

    return Model()


def peer(options):
    """Takes a step for every line that comes in, and tells what it took."""
    import torch
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model = build(torch, read_config(options))
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW([dict(params=matrices, weight_decay=0.1),
                                   dict(params=vectors, weight_decay=0.0)],
                                  lr=2e-3, betas=(0.9, 0.95), fused=True)
    loss_of = torch.compile(model) if options.form.startswith("compiled") else model
    at_once = int(options.form.split("at-once-")[1]) if "at-once" in options.form else options.batch
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    vocabulary = model.embedding.num_embeddings
    for _ in sys.stdin:
        ids = torch.randint(vocabulary, (options.batch, options.length))
        begin = clock()
        told = 0.0
        optimizer.zero_grad(set_to_none=True)
        for part in ids.split(at_once):
            loss = loss_of(part) * (len(part) / options.batch)
            loss.backward()
            told += loss.item()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item()
        optimizer.step()
        print(clock() - begin, told, norm, flush=True)


# --- both ------------------------------------------------------------------------------------

def read_config(options):
    with open(os.path.join(options.model, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    if config["model_type"] != "llama" or config.get("tie_word_embeddings"):
        sys.exit(f"{options.model}: only Llama models with a head of their own")
    config["num_hidden_layers"] = options.layers or config["num_hidden_layers"]
    config["length"] = options.length
    return config


class Program:
    """A program that takes a step for a line."""

    def __init__(self, name, command):
        self.name, self.seconds = name, []
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)

    def step(self):
        """Seconds, loss and gradient norm of a step; None where the program has ended."""
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        return [float(word) for word in line.split()] or None

    def end(self):
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        complaint = self.process.stderr.read()
        self.process.wait()
        return complaint


def start(options):
    """Programs that work, each two steps old."""
    common = []
    for name in ("model", "layers", "batch", "length", "threads", "clock"):
        common += ["--" + name, str(getattr(options, name))]
    speed = os.environ.get("TRAIN_SPEED", os.path.join(ROOT, "build-release/tests/train_speed"))
    programs = [Program("lodestone " + more, [speed, "--peer", "1"] + common +
                        (["--" + more.split("=")[0], more.split("=")[1]] if more else []))
                for more in options.ours.split(",")]
    programs += [Program("torch " + form, [options.python, __file__, "--peer", "--form", form] +
                         common) for form in options.forms.split(",")]
    working = []
    for program in programs:
        first, second = program.step(), program.step()
        if second:
            print(f"{program.name:28s} loss {first[1]:.4f} {second[1]:.4f}, "
                  f"gradient norm {first[2]:.4f} {second[2]:.4f}", flush=True)
            working.append(program)
        else:
            print(f"{program.name:28s} does not work: {program.end().strip().splitlines()[-1:]}")
    return working


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--model", default=os.path.join(ROOT, "configs/quickstart/model"))
    parser.add_argument("--layers", type=int, default=0)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--forms", default="eager,at-once-4,compiled,compiled-at-once-4")
    parser.add_argument("--ours", default="")
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--form", default="eager", help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    options = parse()
    if options.peer:
        peer(options)
        return
    programs = start(options)
    for _ in range(options.rounds):
        for program in programs:
            program.seconds.append(program.step()[0])
    for program in programs:
        program.end()
    tokens = options.batch * options.length
    print(f"steps of {options.batch} x {options.length} tokens, {options.threads} threads, "
          f"{options.clock} clock, median of {options.rounds}")
    ours = min(statistics.median(p.seconds) for p in programs if p.name.startswith("lodestone"))
    for program in programs:
        median = statistics.median(program.seconds)
        print(f"{program.name:28s} {1e3 * median:9.1f} ms  {tokens / median:9.1f} tokens/s  "
              f"({1e3 * min(program.seconds):.1f} to {1e3 * max(program.seconds):.1f} ms)  "
              f"lodestone is {median / ours:.2f} times as fast")


if __name__ == "__main__":
    main()
