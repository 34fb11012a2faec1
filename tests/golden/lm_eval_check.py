"""Holds the protocol lm-eval against lm_eval itself: HFLM.loglikelihood_rolling on a model's folder.

    python3 tests/golden/lm_eval_check.py MODEL TEXT LENGTH [--lines] EVALUATE.h5 NAME [VARIANT]

Needs lm_eval 0.4.13, transformers and torch. TEXT is one document, with --lines each of its lines.
NAME is the perplexity in EVALUATE.h5. Prints both figures; the exit status is 1 where they differ
by more than 1e-5 relative, which float32 and the sum of many losses account for.
"""
import argparse
import math
import re
import sys

import h5py
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM


def main():
    parser = argparse.ArgumentParser()
    for name in ("model", "text", "length", "evaluate", "name"):
        parser.add_argument(name)
    parser.add_argument("variant", nargs="?", default="dense")
    parser.add_argument("--lines", action="store_true")
    options = parser.parse_args()
    with open(options.text, encoding="utf-8", newline="") as file:
        text = file.read()
    rows = text.split("\n") if options.lines else [text.rstrip("\n")]
    rows = [row for row in rows if row.strip()]
    model = HFLM(pretrained=options.model, dtype="float32", device="cpu", batch_size=8,
                 max_length=int(options.length))
    requests = [Instance("loglikelihood_rolling", {}, (row,), i) for i, row in enumerate(rows)]
    total = math.fsum(model.loglikelihood_rolling(requests, disable_tqdm=True))
    words = sum(len(re.split(r"\s+", row)) for row in rows)
    size = sum(len(row.encode()) for row in rows)
    want = {"word_perplexity": math.exp(-total / words), "words": words, "bytes": size,
            "byte_perplexity": math.exp(-total / size), "bits_per_byte": -total / size / math.log(2)}
    failed = False
    with h5py.File(options.evaluate) as file:
        got = file[f"/perplexity/{options.name}/{options.variant}"].attrs
        print(f"prefix {model.prefix_token_id}, begins with {model.tok_encode(rows[0])[:4]}")
        for key, value in want.items():
            difference = got[key] / value - 1
            print(f"{key}: lm_eval {value:.9g}, lodestone {got[key]:.9g}, {difference:+.1e}")
            failed |= abs(difference) > 1e-5
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
