"""Perplexities by every protocol, in float64: what tests/stages/protocol.sh holds Lodestone against.

    python3 tests/golden/protocol.py DATA protocol.json [MODEL...]

DATA is the data folder. Windows, targets and figures are written here from the protocols'
definitions; those of lm-eval come from lm_eval 0.4.13 itself (pip install lm_eval==0.4.13). The
model is tests/golden/llama.py, token ids are those of the library `tokenizers`. With MODELs, only
these are computed again.
"""
import json
import math
import os
import re
import sys

import numpy as np
from llama import Llama
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tokenizers import Tokenizer

ROOT = os.path.join(os.path.dirname(__file__), "..", "..")
BOS, EOS = 1, 2  # of all these models

# name: folder, text file and its first lines, rows file and its first lines, whether the tokenizer
# adds BOS, the prefix of lm-eval. "bare" is the quickstart's model without post-processor, and with
# a tokenizer_config.json that has no bos_token.
QUICKSTART = os.path.join(ROOT, "configs", "quickstart")
EVALUATION = os.path.join(QUICKSTART, "text", "evaluation.txt")
MODELS = {
    "quickstart": (os.path.join(QUICKSTART, "model"), EVALUATION, 40, EVALUATION, 40, True, BOS),
    "bare": (os.path.join(QUICKSTART, "model"), EVALUATION, 40, EVALUATION, 40, False, EOS),
    "stories260k": ("models/stories260k", "corpora/tinystories-eval-small.txt", 1,
                    "corpora/wiki.test.raw", 30, True, BOS),
    "babyllama105": ("models/babyllama105", "corpora/tinystories-eval.txt", 8,
                     "corpora/tinystories-eval.txt", 8, True, BOS),
}
# name: protocol, file, format, length, bos; the entries of tests/stages/protocol.cfg
ENTRIES = {
    "gptq": ("gptq", "text", "text", 256, "auto"),
    "gptq-never": ("gptq", "text", "text", 100, "never"),
    "gptq-always": ("gptq", "text", "text", 100, "always"),
    "gptq-wikitext": ("gptq", "rows", "wikitext", 64, "auto"),
    "llama.cpp": ("llama.cpp", "text", "text", 256, "auto"),
    "llama.cpp-never": ("llama.cpp", "text", "text", 101, "never"),
    "llama.cpp-always": ("llama.cpp", "text", "text", 100, "always"),
    "nodelens": ("nodelens", "text", "text", 256, "auto"),
    "nodelens-lines": ("nodelens", "rows", "lines", 100, "always"),
    "nodelens-wikitext": ("nodelens", "rows", "wikitext", 64, "never"),
    "lm-eval": ("lm-eval", "text", "text", 256, "auto"),
    "lm-eval-lines": ("lm-eval", "rows", "lines", 32, "auto"),
    "lm-eval-never": ("lm-eval", "rows", "lines", 100, "never"),
    "lm-eval-always": ("lm-eval", "rows", "lines", 100, "always"),
    "lm-eval-wikitext": ("lm-eval", "rows", "wikitext", 100, "auto"),
    "lm-eval-edges": ("lm-eval", "edges", "lines", 16, "auto"),
}
# Texts that begin with a special token's text, and white space of every kind, in words and around.
EDGES = ("<s>Once upon a time there was a  cat.\n"
         "</s>He had\u00a0been there\u3000before. \n"
         "  The\tend\u2009of\x1cit\u200b all\u0085now\n"
         "a\n")


# --- texts ----------------------------------------------------------------------------------


def head(path, lines):
    with open(path, encoding="utf-8", newline="") as file:
        return "".join(line + "\n" for line in file.read().split("\n")[:lines])


def documents(text, form, protocol):
    """The texts that a protocol makes of a file's content."""
    if form == "text":
        return [text.rstrip("\n")]
    lines = text.split("\n")[:-1]
    if form == "lines":
        rows = [line for line in lines if line.strip()]
    else:
        rows = [line + "\n" if line.strip() else "" for line in lines]
    if protocol == "llama.cpp":
        return [text.rstrip("\n")]
    if protocol == "nodelens":
        rows = [row for row in rows if row.strip()]
    if protocol == "lm-eval" and form == "lines":
        return rows
    return ["\n\n".join(rows)]


# --- windows: (inputs, targets), a target of −1 is not scored -----------------------------------


def windows_of(protocol, ids, length, bos, prefix):
    if protocol == "lm-eval":
        for pair in get_rolling_token_windows(ids, prefix, length, 1):
            context, continuation = make_disjoint_window(pair)
            inputs = (context + continuation)[:-1]
            yield inputs, [-1] * (len(context) - 1) + continuation
        return
    for begin in range(0, len(ids), length):
        window = ids[begin:begin + length]
        if len(window) < length and (protocol != "nodelens" or len(window) < 2):
            return
        targets = window[1:] + [-1]
        if protocol == "llama.cpp":
            targets = [-1] * (length // 2) + targets[length // 2:]
            window = ([bos] if bos >= 0 else window[:1]) + window[1:]
        yield window, targets


def losses(model, windows):
    """The losses of all targets, in order; windows of one length pass through the model together."""
    found = [None] * len(windows)
    for length in sorted({len(inputs) for inputs, _ in windows}):
        group = [w for w, (inputs, _) in enumerate(windows) if len(inputs) == length]
        for first in range(0, len(group), 16):
            batch = group[first:first + 16]
            logits = model.forward(np.array([windows[w][0] for w in batch]))
            logits -= logits.max(axis=-1, keepdims=True)
            logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
            for row, w in enumerate(batch):
                targets = np.array(windows[w][1])
                scored = np.flatnonzero(targets >= 0)
                found[w] = -logits[row, scored, targets[scored]]
    return found


# --- figures --------------------------------------------------------------------------------


def figures(protocol, nll, texts):
    every = np.concatenate(nll)
    error = every.std(ddof=1) / math.sqrt(every.size)
    mean = math.fsum(every) / every.size
    if protocol != "lm-eval":
        if protocol == "gptq":
            mean = float(np.mean([window.mean() for window in nll]))
        return {"value": math.exp(mean), "stderr": math.exp(mean) * error}
    words = sum(len(re.split(r"\s+", text)) for text in texts)
    size = sum(len(text.encode()) for text in texts)
    total = math.fsum(every)
    tokens = every.size
    return {
        "value": math.exp(total / words), "stderr": math.exp(total / words) * error * tokens / words,
        "words": words, "bytes": size, "word_perplexity": math.exp(total / words),
        "byte_perplexity": math.exp(total / size),
        "byte_perplexity_stderr": math.exp(total / size) * error * tokens / size,
        "bits_per_byte": total / size / math.log(2),
        "bits_per_byte_stderr": error * tokens / size / math.log(2),
        "token_perplexity": math.exp(mean), "token_perplexity_stderr": math.exp(mean) * error,
    }


def evaluate(model, tokenizer, files, entry, adds, prefix):
    protocol, file, form, length, bos = entry
    texts = documents(files[file], form, protocol)
    before = {"auto": BOS if adds else -1, "always": BOS, "never": -1}[bos]
    own = {BOS: "<s>", EOS: "</s>"}[prefix]
    windows = []
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        # lm_eval (HFLM.tok_encode) adds no special tokens to a text that brings the prefix itself
        brings = protocol == "lm-eval" and bos == "auto" and text.startswith(own)
        if before >= 0 and not brings:
            ids = [before] + ids
        windows += windows_of(protocol, ids, length, before, prefix)
    nll = losses(model, windows)
    result = figures(protocol, nll, texts)
    result.update(length=length, windows=len(windows), targets=sum(len(w) for w in nll), bos=before)
    return result


def main():
    data, output, *names = sys.argv[1:]
    found = {}
    if os.path.exists(output):
        with open(output, encoding="utf-8") as file:
            found = json.load(file)
    for name in names or MODELS:
        folder, text, text_lines, rows, rows_lines, adds, prefix = MODELS[name]
        folder, text, rows = (os.path.join(data, path) for path in (folder, text, rows))
        model = Llama(folder)
        tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        assert not adds or tokenizer.encode("a").ids[0] == BOS
        files = {"text": head(text, text_lines), "rows": head(rows, rows_lines), "edges": EDGES}
        found[name] = {key: evaluate(model, tokenizer, files, entry, adds, prefix)
                       for key, entry in ENTRIES.items()}
        for key, result in found[name].items():
            print(name, key, result["value"], "±", result["stderr"])
    with open(output, "w", encoding="utf-8") as file:
        json.dump(found, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
