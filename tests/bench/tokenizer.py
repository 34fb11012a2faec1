#!/usr/bin/env python3
"""Speed of encoding beside the `tokenizers` library (0.23), on one thread.

    tokenizer.py PROGRAM [DATA] [--rounds N] [--families a,b]

PROGRAM is build-release/tests/encode_texts, DATA the data folder (../shared/data). Texts: WikiText-2's
test set as one text, the C4 sample by document, the first 5,000,000 bytes of the books by paragraph.
In each round the two take turns on the same texts, already in memory; the library by encode_batch_fast,
which computes no offsets and is its fastest way. The first encoding of either is not timed. Prints
Markdown: the median MB/s of each over the rounds, and the median of their ratios with the least and the
largest. Times are processor times of one thread. Ids are checked to be equal. Run it on an idle machine.
"""
import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden"))

from tokenizers import Tokenizer  # noqa: E402
import tokenizer_corpora as corpora  # noqa: E402

CORPORA = ("wiki", "c4", "books-paragraphs")


def ours(program, tokenizer, texts, repeat):
    done = subprocess.run([program, tokenizer, texts, "--repeat", str(repeat)], check=True,
                          capture_output=True, text=True)
    values = dict(line.split(" = ", 1) for line in done.stdout.splitlines())
    return [float(s) for s in values["seconds"].split()], values["digest"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("data", nargs="?", default="../shared/data")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--families", default="")
    options = parser.parse_args()
    wanted = options.families.split(",") if options.families else None
    made = corpora.corpora(options.data, CORPORA)
    print("| tokenizer | texts | Lodestone, MB/s | library, MB/s | ratio | least – largest |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for family, path, over in corpora.tokenizers(options.data):
            if len(over) < len(corpora.ALL) or (wanted and family not in wanted):
                continue
            tokenizer = Tokenizer.from_file(path)
            for name in CORPORA:
                texts = made[name]
                framed = os.path.join(folder, name)
                with open(framed, "wb") as file:
                    corpora.frame(texts, file)
                megabytes = sum(len(text.encode()) for text in texts) / 1e6
                want = corpora.digest(corpora.encode(tokenizer, texts, False))
                mine, theirs = [], []
                for _ in range(options.rounds):
                    seconds, digest = ours(options.program, path, framed, 1)
                    if digest != want:
                        sys.exit(f"{family}, {name}: ids differ")
                    mine.append(seconds[0])
                    start = time.process_time()
                    tokenizer.encode_batch_fast(texts, add_special_tokens=False)
                    theirs.append(time.process_time() - start)
                ratios = [b / a for a, b in zip(mine, theirs)]
                print(f"| {family} | {name} | {megabytes / statistics.median(mine):.1f} "
                      f"| {megabytes / statistics.median(theirs):.1f} "
                      f"| {statistics.median(ratios):.2f} | {min(ratios):.2f} – {max(ratios):.2f} |",
                      flush=True)


if __name__ == "__main__":
    main()
