#!/usr/bin/env python3
"""What the BpeTrainer of the `tokenizers` library (0.23) makes of the quickstart's text.

    bpe_train.py [OUTPUT]      writes tests/golden/bpe_train.json, for unit.bpe_train

The library is given the words that text/bpe_words.h describes, by a pre-tokenizer of its own: a regular
expression, and the characters outside the alphabet taken out between words. The alphabet is counted here.
Of each case the file has digests and both ends of the merges, the alphabet, and the digest of the ids that the
library gives to held-out text with a tokenizer of these merges.
"""
import collections
import hashlib
import json
import os
import re
import struct
import sys

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
TRAINED_ON = "configs/quickstart/text/calibration.txt"
HELD_OUT = "configs/quickstart/text/evaluation.txt"
RESERVED = ["<unk>", "<s>", "</s>"] + ["<0x%02X>" % byte for byte in range(256)]
WORDS = r"▁?[\p{L}\p{M}]+|▁?[^▁\p{L}\p{M}\p{N}\p{Z}\p{C}]+|[▁\p{N}\p{Z}\p{C}]"
CASES = (  # vocabulary, coverage, characters of the alphabet at most (0: any number), least count of a pair
    (512, 1.0, 0, 1),
    (1024, 0.9995, 0, 2),
    (700, 0.98, 0, 2),
    (400, 1.0, 30, 2),
)
STRANGE = [
    "", " ", "  two  spaces  and\ttab\r\n", "naïve façade — “quoted”… 12345 6.7e-8", "日本語 and 😀🏽 and \u0301", "▁mark▁▁",
    "<s>in</s> the <0x41> <unk>text", "don't_stop--now!!! (x) [y]", "\x00\x01\x7f\u0085\ufeff", "a" * 40 + " " + "ab" * 25,
]


def normalizer():
    return normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])


def alphabet_of(lines, coverage, most):
    """The alphabet, and the characters of the text that are not in it."""
    counts = collections.Counter()
    for line in lines:
        counts.update(("▁" + line).replace(" ", "▁"))
    seen = set(counts)
    for control in [c for c in counts if ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0]:
        del counts[control]
    total, covered, kept = sum(counts.values()), 0, []
    for character in sorted(counts, key=lambda c: (c != "▁", -counts[c], ord(c))):
        if kept and covered >= coverage * total or most and len(kept) == most:
            break
        kept.append(character)
        covered += counts[character]
    return sorted(kept), sorted(seen - set(kept))


def train(lines, vocabulary, alphabet, least):
    """The vocabulary, token → id, and the merges, pairs of tokens; `alphabet` is alphabet_of()'s."""
    kept, left_out = alphabet
    cuts = [pre_tokenizers.Split(Regex(WORDS), "isolated")]
    if left_out:
        cuts.append(pre_tokenizers.Split(Regex("[%s]" % "".join(map(re.escape, left_out))), "removed"))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(cuts)
    tokenizer.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=vocabulary, min_frequency=least,
                                                             special_tokens=RESERVED, show_progress=False))
    model = json.loads(tokenizer.to_str())["model"]
    assert sorted(t for t, i in model["vocab"].items() if 259 <= i < 259 + len(kept)) == kept
    return model["vocab"], [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]


def assemble(vocab, merges):
    """A tokenizer in the form of Llama's."""
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizer()
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in RESERVED[:3]])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s>:1 $B:1",
                                                             special_tokens=[("<s>", 1)])
    return tokenizer


def rows(path):
    with open(os.path.join(ROOT, path), encoding="utf-8", newline="\n") as file:
        return [line for line in file.read().split("\n") if line.strip()]


def digest_of(merges):
    return hashlib.sha256("".join(f"{a} {b}\n" for a, b in merges).encode()).hexdigest()


def ids_digest(tokenizer, texts):
    """As tests/bench/encode_texts prints it with --special."""
    digest, count = hashlib.sha256(), 0
    for text in texts:
        ids = tokenizer.encode(text).ids
        count += len(ids)
        digest.update(struct.pack(f"<{len(ids) + 1}i", *ids, -1))
    return digest.hexdigest(), count


def main():
    output = sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "tests/golden/bpe_train.json")
    lines, held_out, cases = rows(TRAINED_ON), rows(HELD_OUT), []
    for vocabulary, coverage, most, least in CASES:
        vocab, merges = train(lines, vocabulary, alphabet_of(lines, coverage, most), least)
        assert len(vocab) == vocabulary
        ids, count = ids_digest(assemble(vocab, merges), held_out + STRANGE)
        cases.append({"vocabulary": vocabulary, "coverage": coverage, "alphabet": most, "least": least,
                      "characters": "".join(sorted(t for t in vocab if len(t) == 1)),
                      "merges": len(merges), "merges_sha256": digest_of(merges),
                      "first": [" ".join(m) for m in merges[:12]], "last": [" ".join(m) for m in merges[-12:]],
                      "ids": count, "ids_sha256": ids})
    with open(output, "w", encoding="utf-8") as file:
        json.dump({"trained_on": TRAINED_ON, "held_out": HELD_OUT, "texts": STRANGE, "cases": cases}, file,
                  indent=1, ensure_ascii=False)
        file.write("\n")


if __name__ == "__main__":
    main()
