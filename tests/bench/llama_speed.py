#!/usr/bin/env python3
"""Times the perplexity of one text with Lodestone (protocol llama.cpp) and with llama.cpp, in turn.

    tests/bench/llama_speed.py --peer PROGRAM --text FILE [--length 512] [--threads 1] [--rounds 3]
        [--clock wall|cpu] MODEL=GGUF... [-- OPTION...]

PROGRAM is llama.cpp's llama-perplexity. Each MODEL is a Hugging Face folder and GGUF the same
weights in the same dtype, as convert_hf_to_gguf.py writes them; give one pair for each dtype. This
script neither fetches nor builds nor converts anything. OPTIONs go to the peer. Both take the whole
text, head and loss included.

A time is that of the text less that of its first quarter, so that starting and loading do not
count. LODE names the program under test (default: that of build-release). The clock is the wall's;
"cpu" takes the time that the processes compute, for one thread on a busy machine.
"""
import argparse
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def timed(command, clock):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    wall = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    computed = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return (computed if clock == "cpu" else wall), done.stdout + done.stderr


def experiment(options, work, number, model, text):
    """An experiment of one perplexity, ready but for `evaluate`."""
    path = os.path.join(work, f"{number}-{os.path.basename(text)}.cfg")
    name = os.path.basename(path)[:-4].replace(".", "-")
    with open(path, "w", encoding="utf-8") as file:
        file.write(f'name = "{name}"; results = "{work}/results"; threads = {options.threads};\n'
                   f'models = ( {{ name = "m"; path = "{os.path.abspath(model)}"; }} );\n'
                   f'calibration = {{ corpus = "{text}"; format = "text"; sequences = 1; '
                   'max_length = 32; };\nprune = { methods = [ ]; };\n'
                   f'evaluate = {{ perplexity = ( {{ name = "p"; corpus = "{text}"; '
                   f'protocol = "llama.cpp"; length = {options.length}; }} ); }};\n')
    return path


def quarter_of(text, work):
    with open(text, "rb") as file:
        content = file.read()
    path = os.path.join(work, "quarter.txt")
    with open(path, "wb") as file:
        file.write(content[: content.rfind(b"\n", 0, len(content) // 4) + 1])
    return path


def peer_times(options, gguf, texts):
    """Seconds between the two texts, and tokens."""
    seconds, chunks = [], []
    for text in texts:
        command = [options.peer, "-m", gguf, "-f", text, "-c", str(options.length),
                   "-t", str(options.threads), "-tb", str(options.threads)] + options.more
        used, output = timed(command, options.clock)
        found = re.search(r"over (\d+) chunks", output)
        if not found:
            sys.exit(f"{options.peer}: says nothing of its chunks\n{output[-2000:]}")
        seconds.append(used)
        chunks.append(int(found.group(1)))
    return seconds[1] - seconds[0], (chunks[1] - chunks[0]) * options.length


def parse():
    arguments = sys.argv[1:]
    more = []
    if "--" in arguments:
        more = arguments[arguments.index("--") + 1:]
        arguments = arguments[: arguments.index("--")]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--peer", required=True)
    parser.add_argument("--text", required=True)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("pairs", nargs="+", metavar="MODEL=GGUF")
    options = parser.parse_args(arguments)
    options.more = more
    for pair in options.pairs:
        if not all(os.path.exists(path) for path in pair.split("=", 1)) or "=" not in pair:
            parser.error(f"{pair}: not MODEL=GGUF, or one of them is missing")
    return options


def main():
    options = parse()
    if os.geteuid() == 0:
        os.environ.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    lode = os.environ.get("LODE", os.path.join(ROOT, "build-release", "lode"))
    print(f"{'model':24s} {'lodestone':>12s} {'llama.cpp':>12s} tokens/s  "
          f"({options.threads} threads, contexts of {options.length}, {options.clock} clock)")
    with tempfile.TemporaryDirectory() as work:
        texts = [quarter_of(options.text, work), os.path.abspath(options.text)]
        for number, pair in enumerate(options.pairs):
            model, gguf = pair.split("=", 1)
            paths = [experiment(options, work, number, model, text) for text in texts]
            for path in paths:
                timed([lode, "run", path, "--stages", "tokenize,calibrate,accumulate,classify,prune"],
                      "wall")
            ours, theirs = [], []
            for _ in range(options.rounds):
                used = [timed([lode, "run", path, "--stages", "evaluate", "--force"],
                              options.clock)[0] for path in paths]
                peer_used, tokens = peer_times(options, gguf, texts)
                ours.append(tokens / (used[1] - used[0]))
                theirs.append(tokens / peer_used)
            a, b = statistics.median(ours), statistics.median(theirs)
            print(f"{os.path.basename(os.path.normpath(model)):24s} {a:12.1f} {b:12.1f}"
                  f"  lodestone is {a / b:.2f} times as fast", flush=True)


if __name__ == "__main__":
    main()
