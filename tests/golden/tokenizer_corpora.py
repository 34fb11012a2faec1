#!/usr/bin/env python3
"""Ids of whole corpora, from the `tokenizers` library (0.23), and whether Lodestone's are the same.

    tokenizer_corpora.py write FILE [DATA]          digests of the library's ids, for
                                                    tests/golden/tokenizer_digests.json
    tokenizer_corpora.py compare PROGRAM [DATA]     PROGRAM is build-release/tests/encode_texts: prints
                                                    how many texts differ, and the first ones

DATA is the data folder (../shared/data). Tokenizers: those of the data folder's tokenizers/ and
models/, and the small ones of tests/golden/tokenizers. Corpora, each a list of texts:

    wiki          WikiText-2's test set, the file as one text
    wiki-lines    its lines that are not empty, without their LF
    c4            the documents of the C4 sample
    books         the first 5,000,000 bytes of the books, as one text
    books-paragraphs  the same between empty lines
    hellaswag     contexts and continuations, each by itself
    random        20,000 texts of tests/testing/random_text.c, made here a second time
    random-4000   the first 4,000 of them
    long          four texts of a megabyte, or of 256 KB, without a place to cut

A digest is the SHA-256 of the ids as little-endian int32, with -1 behind those of each text. The
tokenizers of published models go over all corpora without special tokens, and over wiki-lines and
random-4000 with them; those of the test models over these two in both ways; the small ones over
random-4000 in both ways. `compare` takes all of `random` for them.
"""
import gzip
import hashlib
import json
import os
import struct
import subprocess
import sys
import tempfile

import numpy
from tokenizers import Tokenizer, __version__

BOOKS = 5_000_000
RANDOM = 20_000
FEW = 4_000
ALL = ("wiki", "wiki-lines", "c4", "books", "books-paragraphs", "hellaswag", "random", "long")

# --- random texts: the same as tests/testing/random_text.c, which says what they are ------------

WORDS = ["the", "There", "don't", "I'LL", "we've", "'s", "rain", "a", "spain's", "été", "naïve",
         "Straße", "x_1", "fooBar", "HTTPServer", "e.g.", "https://example.org/a?b=c&d#e",
         "if(x<=10){return;}", "\t\tint *p = &q[0];", "--", "...", '"quoted"', "(1)", "3.14159",
         "1,000,000", "0x1F", "\\ud83d", "\\u0000", "\\n", "co-operate"]
GAPS = [" ", " ", " ", "", "\n", ", "]
SPECIALS = ["<s>", "</s>", "<unk>", "<|endoftext|>", "<|begin_of_text|>", "<|end_of_text|>",
            "<|eot_id|>", "<|im_start|>", "<|im_end|>", "<|padding|>", "|||IP_ADDRESS|||", "<0x41>",
            "[INST]", "<|start_header_id|>", "<pad>", "\u2581"]
BLOCKS = [(0x20, 0x7E), (0xA0, 0xFF), (0x100, 0x24F), (0x250, 0x2AF), (0x3A3, 0x3FF),
          (0x400, 0x52F), (0x5D0, 0x5EA), (0x620, 0x65F), (0x660, 0x6FF), (0x904, 0x94D),
          (0xE01, 0xE3A), (0x1100, 0x11FF), (0x1E00, 0x1EFF), (0x2000, 0x2064), (0x2100, 0x218B),
          (0x2190, 0x23FA), (0x2460, 0x24FF), (0x2500, 0x2B73), (0x3041, 0x3096), (0x30A1, 0x30FE),
          (0x4E00, 0x9FD5), (0xAC00, 0xD7A3), (0xE000, 0xF8FF), (0xFB00, 0xFB06), (0xFF01, 0xFFBE),
          (0x1D400, 0x1D454), (0x1F300, 0x1F6D2), (0xE0020, 0xE007F)]
SPACES = [0x20, 0x20, 0x20, 0x0A, 0x0A, 0x09, 0x0D, 0xA0, 0x3000, 0x2028, 0x85, 0x0B, 0x0C, 0x200B,
          0x180E, 0x1C]
MARKS = [0x300, 0x301, 0x308, 0x323, 0x327, 0x345, 0x338, 0x1161, 0x11A8, 0x3099, 0x5B0, 0x64B]
LETTERS = [ord("a"), ord("e"), ord("i"), ord("o"), ord("u"), ord("A"), ord("n"), 0xAC00, 0x1100,
           0x5D0]

MASK = (1 << 64) - 1
INCREMENT = 0x9E3779B97F4A7C15


def mix(word):
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & MASK
    word = (word ^ word >> 27) * 0x94D049BB133111EB & MASK
    return word ^ word >> 31


class Draws:
    """pipeline/base/random.c."""

    def __init__(self, seed, purpose, major):
        key = 0
        for word in (seed, *purpose.encode(), len(purpose), major, 0):
            key = mix(((key ^ word) + INCREMENT) & MASK)
        self.key, self.counter = key, 0

    def below(self, bound):
        self.counter += 1
        return mix(self.key + self.counter * INCREMENT & MASK) * bound >> 64

    def of(self, items):
        return items[self.below(len(items))]


def words(d):
    return "".join(d.of(WORDS) + d.of(GAPS) for _ in range(1 + d.below(6)))


def block(d):
    first, last = d.of(BLOCKS)
    return "".join(chr(first + d.below(last - first + 1)) for _ in range(1 + d.below(8)))


def spaces(d):
    most = d.of([2, 5, 40])
    mixed = d.below(2) == 1
    space, out = d.of(SPACES), []
    for _ in range(1 + d.below(most)):
        out.append(chr(space))
        if mixed:
            space = d.of(SPACES)
    return "".join(out)


def special(d):
    text = d.of(SPECIALS)
    whole = d.below(4) > 0
    return text if whole or ord(text[0]) >= 0x80 else text[:1 + d.below(len(text))]


def marks(d):
    letter = chr(d.of(LETTERS))
    return letter + "".join(chr(d.of(MARKS)) for _ in range(1 + d.below(6)))


def emoji(d):
    kind = d.below(4)
    if kind == 0:
        return "".join(chr(0x1F466 + d.below(4)) + "\u200d" for _ in range(d.below(3))) + "\U0001f468"
    if kind == 1:
        return chr(0x1F44A + d.below(6)) + chr(0x1F3FB + d.below(5))
    if kind == 2:
        return chr(0x1F1E6 + d.below(26)) + chr(0x1F1E6 + d.below(26))
    return chr(ord("0") + d.below(10)) + "\ufe0f\u20e3"


def control(d):
    codes = [d.below(64) for _ in range(1 + d.below(3))]
    return "".join(chr(c if c < 32 else 0x60 + c) for c in codes)


def number(d):
    return "".join(chr(ord("0") + d.below(10)) for _ in range(1 + d.below(12)))


def random_text(index):
    d = Draws(2026, "random text", index)
    out = []
    most = d.of([3, 12, 40])
    for _ in range(1 + d.below(most)):
        kind = d.below(100)
        make = (words if kind < 30 else block if kind < 50 else spaces if kind < 62 else
                special if kind < 72 else marks if kind < 80 else emoji if kind < 87 else
                control if kind < 92 else number)
        out.append(make(d))
    return "".join(out)


def long_text(kind, size):
    d = Draws(2026, "long text", kind)
    out, length = [], 0
    while length < size:
        piece = (d.of(WORDS[:8]) if kind == 0 else "a" if kind == 1 else
                 chr(0x4E00 + d.below(0x5000)) if kind == 2 else " " if d.below(9) else "\n")
        out.append(piece)
        length += len(piece.encode())
    return "".join(out)


# --- corpora ----------------------------------------------------------------------------------


def read(path):
    with open(path, "rb") as file:
        return file.read()


def books(data):
    with gzip.open(os.path.join(data, "corpora/books-24MB.txt.gz")) as file:
        content = file.read(BOOKS + 1)
    end = BOOKS
    while content[end] & 0xC0 == 0x80:
        end -= 1
    return content[:end].decode()


def hellaswag(data):
    out = []
    for line in read(os.path.join(data, "tasks/hellaswag.jsonl")).splitlines():
        requests = json.loads(line)["requests"]
        out.append(requests[0][0])
        out.extend(continuation for _, continuation in requests)
    return out


def corpora(data, wanted=None):
    """Those of the names that are wanted, in order."""
    wiki = read(os.path.join(data, "corpora/wiki.test.raw")).decode()
    book = books(data)
    lines = read(os.path.join(data, "corpora/c4-sample.jsonl")).decode().split("\n")
    make = {
        "wiki": lambda: [wiki],
        "wiki-lines": lambda: [line for line in wiki.split("\n") if line],
        "c4": lambda: [json.loads(line)["text"] for line in lines if line],
        "books": lambda: [book],
        "books-paragraphs": lambda: [text for text in book.split("\n\n") if text],
        "hellaswag": lambda: hellaswag(data),
        "random": lambda: [random_text(i) for i in range(RANDOM)],
        "random-4000": lambda: [random_text(i) for i in range(FEW)],
        "long": lambda: [long_text(0, 1 << 20), long_text(1, 1 << 20), long_text(2, 1 << 18),
                         long_text(3, 1 << 20)],
    }
    return {name: texts() for name, texts in make.items() if not wanted or name in wanted}


def tokenizers(data, random="random-4000"):
    """(name, path, [(corpus, whether with special tokens)])"""
    special = [("wiki-lines", True), (random, True)]
    for family in sorted(os.listdir(os.path.join(data, "tokenizers"))):
        path = os.path.join(data, "tokenizers", family, "tokenizer.json")
        yield family, path, [(corpus, False) for corpus in ALL] + special
    for model in ("babyllama105", "books3m", "stories260k"):
        path = os.path.join(data, "models", model, "tokenizer.json")
        yield model, path, [("wiki-lines", False), (random, False)] + special
    small = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tokenizers")
    for file in sorted(os.listdir(small)):
        yield file[:-5], os.path.join(small, file), [(random, False), (random, True)]


# --- ids --------------------------------------------------------------------------------------


def encode(tokenizer, texts, add_special):
    out = []
    for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=add_special):
        out.extend(encoding.ids)
        out.append(-1)
    return numpy.array(out, dtype="<i4")


def digest(ids):
    return hashlib.sha256(ids.tobytes()).hexdigest()


def jobs(data, wanted, random):
    made = corpora(data)
    for name, path, over in tokenizers(data, random):
        if wanted and name not in wanted:
            continue
        tokenizer = Tokenizer.from_file(path)
        for corpus, add_special in over:
            texts = made[corpus]
            yield name, path, corpus, texts, add_special, encode(tokenizer, texts, add_special)


def write(output, data):
    out = {"library": "tokenizers " + __version__, "digests": {}}
    for name, _, corpus, texts, add_special, ids in jobs(data, None, "random-4000"):
        key = corpus + (" with special tokens" if add_special else "")
        out["digests"].setdefault(name, {})[key] = {
            "texts": len(texts), "bytes": sum(len(text.encode()) for text in texts),
            "ids": int((ids >= 0).sum()), "sha256": digest(ids)}
        print(name, key, flush=True)
    with open(output, "w", encoding="ascii") as file:
        json.dump(out, file, indent=1)
        file.write("\n")


def frame(texts, file):
    for text in texts:
        content = text.encode()
        file.write(struct.pack("<Q", len(content)) + content)


def run(program, path, texts, add_special, folder):
    """Lodestone's ids; None with a message where it fails."""
    source, target = os.path.join(folder, "texts"), os.path.join(folder, "ids")
    with open(source, "wb") as file:
        frame(texts, file)
    command = [program, path, source, "--ids", target] + ["--special"] * add_special
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        print(done.stderr.decode().strip())
        return None
    return numpy.frombuffer(read(target), dtype="<i4")


def differing(got, want):
    """Numbers of the texts whose ids differ."""
    ends = [numpy.flatnonzero(ids == -1) for ids in (got, want)]
    starts = [numpy.concatenate([[0], end[:-1] + 1]) for end in ends]
    return [i for i in range(len(ends[1])) if i >= len(ends[0]) or not numpy.array_equal(
        got[starts[0][i]:ends[0][i]], want[starts[1][i]:ends[1][i]])]


def compare(program, data, wanted):
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        for name, path, corpus, texts, add_special, want in jobs(data, wanted, "random"):
            got = run(program, path, texts, add_special, folder)
            bad = list(range(len(texts))) if got is None else differing(got, want)
            print(f"{name} {corpus}{' with special tokens' if add_special else ''}: {len(texts)} "
                  f"texts, {int((want >= 0).sum())} ids, {len(bad)} differ", flush=True)
            for index in bad[:2]:
                print("   ", ascii(texts[index])[:300])
            failed |= bool(bad)
    return failed


def main():
    if len(sys.argv) < 3 or sys.argv[1] not in ("write", "compare"):
        sys.exit(__doc__)
    data = sys.argv[3] if len(sys.argv) > 3 else "../shared/data"
    if sys.argv[1] == "write":
        write(sys.argv[2], data)
    else:
        sys.exit(1 if compare(sys.argv[2], data, sys.argv[4:]) else 0)


if __name__ == "__main__":
    main()
