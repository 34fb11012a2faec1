"""Vectors for tests/unit/test_tokenizer.c, by the `tokenizers` library.

    tokenizer_vectors.py tests/golden/tokenizer_vectors.json [data folder]

Makes the vector file: small tokenizers of our own, each a base with some of its members replaced, and
for every one the ids of every text with and without special tokens; then the ids that the tokenizers
of the data folder give for the same texts. Whole corpora are compared by tokenizer_corpora.py.
"""

import json
import os
import random
import sys

from tokenizers import Tokenizer

MARK = "\u2581"
CL100K = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
          r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
         r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|"
         r"\s+(?!\S)|\s+")
POSSESSIVE = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}|"
              r" ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+")

FAMILIES = ["models/stories260k", "models/babyllama105", "models/books3m", "tokenizers/llama-2",
            "tokenizers/mistral-7b-v0.1", "tokenizers/llama-3.1", "tokenizers/qwen2",
            "tokenizers/gpt-2", "tokenizers/olmo-1", "tokenizers/olmo-2"]

TEXTS = [
    "", " ", "  ", "   leading", "trailing   ", "\n", "\n\n \n", "\t\t a\r\nb\r\n\r\n",
    "The rain in Spain.", "the then other anther", "aaaaaaaaaaaa",
    "I'll we've they'RE don'T 'S 's 'd 'tis", "it\u017f '\u017f x'\u017f 'LL", "3.14159 2024 007 1234567",
    "\u00bd \u00b2 \u2167 \u0663\u0664\u0665 \u0e53", "caf\u00e9 cafe\u0301 na\u00efve \u00c5ngstr\u00f6m \u212b",
    "e\u0301\u0323 e\u0323\u0301 a\u0328\u0301\u0308 \u0344", "\u1e9b\u0323 \ufb01 \uff21 \u3392 \u32ff", "\uac00\u11a8 \u1100\u1161\u11a8 \ud55c\uad6d\uc5b4",
    "a\u1df6\u0323 a\u1abf\u0301 a\u0898\u0301 \u0cd5", "mmmmm hmmm mmmmmmmm mmmmmmm",
    "mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm", "\u4f60\u597d\u4e16\u754c \u3053\u3093\u306b\u3061\u306f", "\u041f\u0440\u0438\u0432\u0435\u0442 \u03b5\u03bb\u03bb\u03ac\u03b4\u03b1\u03c2 \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f44d\U0001f3fd \U0001f1e9\U0001f1ea \u2764\ufe0f", "x\u00a0y\u2003z\u3000w\u2028v\u0085u\u180et\u200bs", "a\x01b\x7fc\x1bd\x1ce",
    "for (i = 0; i < n; i++) { a[i] += 2; }", "http://x.y/z?q=1&r=2#s", "\u2581\u2581a \u2581b", "___ -- ... !?!?", "snake_case CamelCase UPPER",
    "one<s>two</s> three", "<unk><unk> <un k>", "a [A] b[A]c [A][A]", "x [L] y  [L]z", "x [R] y[R]  z", "[W] a[W] [W]b \u00e9[W] .[W].",
    "[N] caf[N] [NN] [N]N]", "\ufb01sh [fi] \ufb01 fi", "[AB][A]B [ABC]", "a  [L]  [R]  [L] b", "qqq zzz q z qz", "\u00e9\u00e8\u4e00q\u00e9", "the \u00e9 the \u4e00\u4e8c the",
    "the the the the the the the the the the the the the the the the the the the the the the the the",
]


def corpus():
    """Self-made text to learn merges from: enough of them to make merging interesting."""
    words = "the then there other another rain in spain stays mainly on plain and i will they mm mmmm".split()
    rng = random.Random(7)
    return [" ".join(rng.choice(words) for _ in range(rng.randint(3, 9))) for _ in range(200)]


def learn(lines, symbols_of, alphabet, first_id, count):
    """Plain BPE training; returns vocabulary and merges."""
    vocab = {}
    for symbol in alphabet:
        vocab[symbol] = first_id + len(vocab)
    words = [symbols_of(line) for line in lines]
    merges = []
    while len(merges) < count:
        pairs = {}
        for word in words:
            for pair in zip(word, word[1:]):
                pairs[pair] = pairs.get(pair, 0) + 1
        best = max(sorted(pairs), key=lambda pair: pairs[pair])
        joined = best[0] + best[1]
        if joined not in vocab:
            vocab[joined] = first_id + len(vocab)
        merges.append(best)
        for word in words:
            i = 0
            while i + 1 < len(word):
                if (word[i], word[i + 1]) == best:
                    word[i:i + 2] = [joined]
                i += 1
    return vocab, merges


def byte_alphabet():
    table, extra = {}, 0
    for byte in range(256):
        printable = 0x21 <= byte <= 0x7E or 0xA1 <= byte <= 0xAC or byte >= 0xAE
        table[byte] = chr(byte) if printable else chr(256 + extra)
        extra += not printable
    return table


def added(token, content, **flags):
    entry = {"id": token, "content": content, "single_word": False, "lstrip": False,
             "rstrip": False, "normalized": False, "special": True}
    entry.update(flags)
    return entry


def bpe(vocab, merges, **options):
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
             "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
             "vocab": vocab, "merges": merges}
    model.update(options)
    return model


def bases():
    """A vocabulary of characters with byte fallback, and one of bytes."""
    control = {"<unk>": 0, "<s>": 1, "</s>": 2}
    fallback = {"<0x%02X>" % byte: 3 + byte for byte in range(256)}
    letters = [MARK] + [chr(c) for c in range(0x21, 0x7F) if chr(c) not in "qzQZ"]
    vocab, merges = learn(corpus(), lambda line: list(MARK + line.replace(" ", MARK)), letters,
                          3 + 256, 70)
    characters = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [added(0, "<unk>"), added(1, "<s>"), added(2, "</s>")],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": MARK},
            {"type": "Replace", "pattern": {"String": " "}, "content": MARK}]},
        "pre_tokenizer": None, "post_processor": None, "decoder": None,
        "model": bpe({**control, **fallback, **vocab}, [" ".join(m) for m in merges],
                     unk_token="<unk>", fuse_unk=True, byte_fallback=True)}
    table = byte_alphabet()
    vocab, merges = learn(corpus(), lambda line: [table[b] for b in (" " + line).encode()],
                          list(table.values()), 0, 70)
    bytes_ = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                          "use_regex": True},
        "post_processor": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False,
                           "use_regex": True},
        "decoder": None, "model": bpe(vocab, [list(m) for m in merges])}
    return {"characters": characters, "bytes": bytes_}


def special_piece(token):
    return {"SpecialToken": {"id": token, "type_id": 0}}


def template(before, behind, ids):
    single = [special_piece(t) for t in before] + [{"Sequence": {"id": "A", "type_id": 0}}] + \
             [special_piece(t) for t in behind]
    pair = single + [{"Sequence": {"id": "B", "type_id": 1}}]
    return {"type": "TemplateProcessing", "single": single, "pair": pair,
            "special_tokens": {t: {"id": t, "ids": ids[t], "tokens": [t] * len(ids[t])}
                               for t in ids}}


def metaspace(**options):
    return {"normalizer": None,
            "pre_tokenizer": {"type": "Metaspace", "replacement": MARK, **options}}


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def byte_level(**options):
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
            "use_regex": False, **options}


def sequence(*steps):
    return {"pre_tokenizer": {"type": "Sequence", "pretokenizers": list(steps)}}


def variants(base):
    """(base, members replaced, model members replaced); a null model member is removed."""
    size = len(base["bytes"]["model"]["vocab"])
    tokens = [added(size, "[A]"), added(size + 1, "[AB]"), added(size + 2, "[L]", lstrip=True),
              added(size + 3, "[R]", rstrip=True), added(size + 4, "[W]", single_word=True),
              added(size + 5, "[N]", normalized=True, special=False),
              added(size + 6, "\ufb01", normalized=True, special=False),
              added(size + 7, "  ", normalized=True, special=False),
              added(size + 8, "<s>"), added(size + 9, "</s>"), added(size + 10, "[A]c")]
    ids = {"<s>": [size + 8], "</s>": [size + 9]}
    no_quote = {"<0x%02X>" % byte: None for byte in (0xC3, 0x71)}
    yield "llama", "characters", {"post_processor": template(["<s>"], [], {"<s>": [1]})}, {}
    yield "no fallback", "characters", {}, {"byte_fallback": False}
    yield "no fusing", "characters", {}, {"byte_fallback": False, "fuse_unk": False}
    yield "part of a fallback", "characters", {}, {"vocab": no_quote}
    yield "part, no fusing", "characters", {}, {"vocab": no_quote, "fuse_unk": False}
    yield "unknowns dropped", "characters", {}, {"byte_fallback": False, "unk_token": None}
    yield "whole tokens", "characters", {}, {"ignore_merges": True}
    yield "metaspace", "characters", metaspace(prepend_scheme="always", split=True), {}
    yield "metaspace first", "characters", metaspace(prepend_scheme="first", split=False), {}
    yield "metaspace first, cut", "characters", metaspace(prepend_scheme="first", split=True), {}
    first = metaspace(prepend_scheme="first", split=False)
    yield "metaspace first, behind a cut", "characters", {
        **first, **sequence(split(" ", kind="String"), first["pre_tokenizer"])}, {}
    yield "metaspace first, added", "characters", {**first, "added_tokens": [
        added(base["characters"]["model"]["vocab"]["the"], "the", normalized=True)]}, {}
    yield "metaspace never", "characters", metaspace(prepend_scheme="never", split=True), {}
    yield "metaspace of old", "characters", metaspace(add_prefix_space=True), {}
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        yield form, "bytes", {"normalizer": {"type": form}}, {}
    yield "replace by pattern", "bytes", {"normalizer": {"type": "Sequence", "normalizers": [
        {"type": "NFKC"}, {"type": "Replace", "pattern": {"Regex": r"\s{2,}|\d"}, "content": "#"},
        {"type": "Prepend", "prepend": "::"}]}}, {}
    yield "gpt-2", "bytes", {}, {}
    yield "prefix space", "bytes", {"pre_tokenizer": byte_level(add_prefix_space=True,
                                                                use_regex=True)}, {}
    yield "no pattern", "bytes", {"pre_tokenizer": byte_level()}, {}
    yield "cl100k", "bytes", sequence(split(CL100K), byte_level()), {"ignore_merges": True}
    yield "cl100k inverted", "bytes", sequence(split(CL100K, "Removed", True), byte_level()), {}
    yield "o200k", "bytes", sequence(split(O200K), byte_level()), {}
    yield "possessive", "bytes", sequence(split(POSSESSIVE), byte_level()), {}
    for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        for invert in (False, True):
            yield f"{behavior} {invert}", "bytes", sequence(
                split(r"[aeiou\s]", behavior, invert), byte_level()), {}
    yield "optional", "bytes", sequence(split(r"t*", "MergedWithNext"), byte_level()), {}
    yield "lookaround", "bytes", sequence(split(r"(?<=[a-z])(?=[A-Z])|.(?<![^t-])h|(?>n+?)"),
                                           byte_level()), {}
    yield "string", "bytes", sequence(split("th", "MergedWithPrevious", kind="String"),
                                      byte_level()), {}
    yield "digits", "bytes", sequence({"type": "Digits", "individual_digits": True},
                                      byte_level(use_regex=True)), {}
    yield "numbers", "bytes", sequence({"type": "Digits", "individual_digits": False},
                                       byte_level(use_regex=True, add_prefix_space=True)), {}
    yield "added", "bytes", {"added_tokens": tokens, "normalizer": {"type": "NFKC"}}, {}
    yield "added, prefix", "bytes", {"added_tokens": tokens, "pre_tokenizer": byte_level(
        add_prefix_space=True, use_regex=True)}, {}
    yield "template", "bytes", {"added_tokens": tokens, "post_processor": {
        "type": "Sequence", "processors": [byte_level(), template(["<s>", "</s>"], ["</s>"], ids)]
    }}, {}


def apply(base, members, model):
    made = json.loads(json.dumps({**base, **members}))
    for key, value in model.items():
        if key == "vocab":
            for token in value:
                del made["model"]["vocab"][token]
        else:
            made["model"][key] = value
    return made


def write(path, data):
    base = bases()
    out = {"texts": TEXTS, "bases": base, "variants": [], "families": []}
    for name, which, members, model in variants(base):
        tokenizer = Tokenizer.from_str(json.dumps(apply(base[which], members, model)))
        ids = [tokenizer.encode(text).ids for text in TEXTS]
        plain = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
        entry = {"name": name, "base": which, "members": members, "model": model, "ids": plain}
        if ids != plain:
            entry["special_ids"] = ids
        out["variants"].append(entry)
    for family in FAMILIES if data else []:
        tokenizer = Tokenizer.from_file(os.path.join(data, family, "tokenizer.json"))
        out["families"].append({"path": family + "/tokenizer.json",
                                "ids": [tokenizer.encode(text).ids for text in TEXTS]})
    text = json.dumps(out, ensure_ascii=True, separators=(",", ":"))
    with open(path, "w", encoding="ascii") as file:
        for piece in text.replace(',{"name"', ',\n{"name"').replace(',{"path"', ',\n{"path"').split("\n"):
            file.write(piece + "\n")


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    write(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)


if __name__ == "__main__":
    main()
