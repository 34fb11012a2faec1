#!/usr/bin/env python3
"""Training a tokenizer beside the `tokenizers` library (0.23): merges, ids and time.

    bpe_train.py PROGRAMS CORPUS VOCABULARY [--held-out TEXT] [--beside tokenizer.json] [--coverage X]
                 [--alphabet N] [--least N] [--threads N]

PROGRAMS is build-release/tests, with train_tokenizer and encode_texts; CORPUS a text, perhaps compressed
with gzip, each line one text. The library trains on the same lines by the rules of text/bpe_train.h
(tests/golden/bpe_train.py). Prints whether all merges and the ids of the held-out text (without one: of the
corpus's first fifth) are equal, tokens a byte, and seconds, by the clock and of processors: ours of reading,
normalizing, counting and training in one thread, the library's, from texts in memory, in `threads` (1). --beside says how many tokens
and merges another tokenizer has in common with ours, and its tokens a byte. Exit status: 0 if all is equal.
"""
import argparse
import gzip
import json
import os
import resource
import struct
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "golden"))


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("programs")
    parser.add_argument("corpus")
    parser.add_argument("vocabulary", type=int)
    parser.add_argument("--held-out")
    parser.add_argument("--beside")
    parser.add_argument("--coverage", type=float, default=0.9995)
    parser.add_argument("--alphabet", type=int)
    parser.add_argument("--least", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def lines_of(path):
    opened = gzip.open if path.endswith(".gz") else open
    with opened(path, "rt", encoding="utf-8", newline="\n") as file:
        return [line for line in file.read().split("\n") if line.strip()]


def values(command):
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(line.split(" = ", 1) for line in done.stdout.splitlines())


def pairs(model):
    return [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]


def compare(options, folder):
    import bpe_train as golden  # reads how many threads there may be
    from tokenizers import Tokenizer
    ours, text = os.path.join(folder, "tokenizer.json"), os.path.join(folder, "texts")
    alphabet = (options.vocabulary - 259) // 2 if options.alphabet is None else options.alphabet
    lines = lines_of(options.corpus)
    held_out = lines_of(options.held_out) if options.held_out else lines[:len(lines) // 5]
    trained = values([os.path.join(options.programs, "train_tokenizer"), options.corpus, str(options.vocabulary), ours,
                      "--coverage", str(options.coverage), "--alphabet", str(alphabet), "--least", str(options.least)])
    used = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    characters = golden.alphabet_of(lines, options.coverage, alphabet)
    start, start_used = time.perf_counter(), time.process_time()
    vocab, merges = golden.train(lines, options.vocabulary, characters, options.least)
    theirs, theirs_used = time.perf_counter() - start, time.process_time() - start_used
    print(f"library: {theirs:.2f} s, {theirs_used:.2f} s of processors, {len(merges)} merges")
    print(f"ours: {float(trained['seconds_training']):.2f} s, and {float(trained['seconds_reading']):.2f} s of reading; "
          f"{used:.2f} s of processors in all, {trained['merges']} merges, {trained['alphabet']} characters")
    with open(ours, encoding="utf-8") as file:
        model = json.load(file)["model"]
    equal = [pairs(model) == merges and model["vocab"] == vocab]
    print("merges and vocabulary equal:", equal[0])

    with open(text, "wb") as file:
        for line in held_out:
            data = line.encode()
            file.write(struct.pack("<q", len(data)) + data)
    size = sum(len(line.encode()) for line in held_out)

    def tokens(path, what):
        want, count = golden.ids_digest(Tokenizer.from_file(path), held_out)
        got = values([os.path.join(options.programs, "encode_texts"), path, text, "--special"])["digest"]
        print(f"{what}: {count - len(held_out)} tokens of {size} bytes, {(count - len(held_out)) / size:.4f} a byte; "
              f"ids as the library's: {got == want}")
        equal.append(got == want)

    tokens(ours, "ours")
    if options.beside:
        tokens(options.beside, "beside")
        with open(options.beside, encoding="utf-8") as file:
            other = json.load(file)["model"]
        names = set(other["vocab"]) & set(model["vocab"])
        common = set(pairs(other)) & set(pairs(model))
        print(f"tokens in common: {len(names)} of {len(other['vocab'])}, merges in common: {len(common)} of "
              f"{len(model['merges'])} ours and {len(other['merges'])} beside; merged tokens in common: "
              f"{sum(len(n) > 1 and not n.startswith('<0x') for n in names)} of {len(model['merges'])}")
    return all(equal)


def main():
    options = arguments()
    os.environ["RAYON_NUM_THREADS"] = str(options.threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if options.threads > 1 else "false"
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(0 if compare(options, folder) else 1)


if __name__ == "__main__":
    main()
