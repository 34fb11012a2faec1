#!/usr/bin/env python3
"""Times the short sequences of a task: beside whole windows of the same model, and beside lm_eval.

    tasks.py LODE MODEL TASK.jsonl TEXT [--limit N] [--batches 1,8,32]

LODE is the program, MODEL a Hugging Face folder. Measured are, on one thread, seconds of CPU time of
(1) the stage evaluate alone, over the first N items of the task, (2) that stage over as many tokens
of TEXT in windows of 256, protocol gptq, and (3) HFLM.loglikelihood of lm_eval, float32 on the CPU,
over the same requests, at the best of the batch sizes. (1) and (2) are without what the stage takes
to begin and to end; (3) encodes texts too, which takes next to nothing. Needs lm_eval 0.4.13, transformers, torch and h5py.
"""
import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", HF_HUB_OFFLINE="1")

import h5py

WINDOW = 256


def run(lode, experiment, *extra):
    """CPU seconds of the program."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([lode, "run", experiment, *extra], stdin=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def evaluate(lode, work, name, model, text, wanted):
    """CPU seconds of the stage evaluate, and the folder of results."""
    experiment = work / f"{name}.cfg"
    experiment.write_text(
        f'name = "{name}"; results = "{work}"; models = ({{ name = "m"; path = "{model}"; }});\n'
        f'calibration = {{ corpus = "{text}"; format = "text"; sequences = 1; max_length = 16; }};\n'
        f"prune = {{ methods = []; }};\nevaluate = {{ {wanted} }};\n")
    run(lode, experiment)
    best = min(run(lode, experiment, "--stages", "evaluate", "--force") for _ in range(2))
    return best, work / name / "m"


def time_lode(lode, model, task, text, limit):
    """Requests, tokens computed for them, and the seconds a token of both kinds."""
    with tempfile.TemporaryDirectory() as path:
        work = pathlib.Path(path)

        def perplexity(name, characters):
            (work / f"{name}.txt").write_text(text.read_text(encoding="utf-8")[:characters],
                                              encoding="utf-8")
            seconds, results = evaluate(
                lode, work, name, model, text,
                f'perplexity = ({{ name = "p"; corpus = "{work}/{name}.txt"; '
                f'length = {WINDOW}; bos = "never"; }});')
            with h5py.File(results / "evaluate.h5") as file:
                return seconds, int(file["perplexity/p/dense"].attrs["windows"]) * WINDOW

        seconds, results = evaluate(lode, work, "task", model, text,
                                    f'tasks = ({{ name = "t"; path = "{task}"; limit = {limit}; }});')
        with h5py.File(results / "tokenize.h5") as file:
            offsets, ids = file["tasks/t/offsets"][:], file["tasks/t/ids"][:]
        sequences = {ids[a:b - 1].tobytes() for a, b in zip(offsets[:-1], offsets[1:])}
        tokens = sum(len(sequence) // 4 for sequence in sequences)
        little, few = perplexity("little", 4000)
        much, many = perplexity("much", 4000 * (2 + tokens // few))
    overhead = little - few * (much - little) / (many - few)
    return (len(offsets) - 1, tokens, (seconds - overhead) / tokens, (much - little) / (many - few))


def time_lm_eval(model, task, limit, batches):
    """CPU seconds of the requests and the batch size that took them."""
    import torch
    import transformers
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    items = [json.loads(line) for line in task.read_text(encoding="utf-8").splitlines()[:limit]]
    requests = [Instance("loglikelihood", {}, tuple(request), i)
                for i, item in enumerate(items) for request in item["requests"]]
    best = None
    causal = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    if (model / "tokenizer_config.json").exists():
        tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    else:  # it would not know that there are a BOS and an EOS, which lm_eval asks for
        tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_file=str(model / "tokenizer.json"), bos_token="<s>", eos_token="</s>")
    for batch in batches:
        peer = HFLM(pretrained=causal, tokenizer=tokenizer, device="cpu", batch_size=batch)
        begin = time.process_time()
        peer.loglikelihood(requests, disable_tqdm=True)
        seconds = time.process_time() - begin
        best = min(best, (seconds, batch)) if best else (seconds, batch)
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("lode", "model", "task", "text"):
        parser.add_argument(name, type=lambda value: pathlib.Path(value).resolve())
    parser.add_argument("--limit", type=int, default=25)
    parser.add_argument("--batches", default="1,8,32")
    options = parser.parse_args()
    count, tokens, short, whole = time_lode(options.lode, options.model, options.task, options.text,
                                            options.limit)
    print(f"{count} requests, {tokens} tokens computed, {tokens / count:.0f} a request")
    print(f"lode, task:             {1 / short:9.0f} tokens/s, {short * tokens:.2f} s")
    print(f"lode, windows of {WINDOW}:    {1 / whole:9.0f} tokens/s; the task's tokens cost "
          f"{short / whole:.2f} of them")
    if options.batches:
        seconds, batch = time_lm_eval(options.model, options.task, options.limit,
                                      [int(batch) for batch in options.batches.split(",")])
        print(f"lm_eval, batches of {batch}:  {tokens / seconds:9.0f} tokens/s, {seconds:.2f} s, "
              f"{seconds / (short * tokens):.2f} times lode's")


if __name__ == "__main__":
    main()
