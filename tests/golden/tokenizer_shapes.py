#!/usr/bin/env python3
"""Small tokenizers in the shapes that published models have, learnt with the `tokenizers` library
(0.23) from the embedded text.

    tokenizer_shapes.py tests/golden/tokenizers

The vocabularies are ours; normalizer, pre-tokenizer, post-processor and the flags of added tokens are
built like those of the model that a file is named after. Ids of them are in tokenizer_digests.json.
"""
import json
import os
import sys

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

TEXT = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                    "../../configs/quickstart/text/calibration.txt")
MARK = "\u2581"

CL100K = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN = CL100K.replace("{1,3}", "")
TEKKEN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
          r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}"
          r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK_3 = (r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
              r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK = ["[\r\n]", "\\s?[A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba]+",
            "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+", r"\s+$",
            "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7a3]+"]


def added(content, **flags):
    return {"content": content, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": True, **flags}


def template(*before):
    single = [{"SpecialToken": {"id": token, "type_id": 0}} for token in before]
    single.append({"Sequence": {"id": "A", "type_id": 0}})
    return {"type": "TemplateProcessing", "single": single,
            "pair": single + [{"Sequence": {"id": "B", "type_id": 1}}], "special_tokens": list(before)}


def learn(kind, size):
    """A model's JSON: bytes, or characters with byte fallback."""
    tokenizer = Tokenizer(models.BPE(unk_token=None if kind == "bytes" else "<unk>"))
    if kind == "bytes":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(vocab_size=size, show_progress=False,
                                      initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        first = ["<unk>", "<s>", "</s>"] + ["<0x%02X>" % byte for byte in range(256)]
        trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=first, show_progress=False)
    with open(TEXT, encoding="utf-8") as file:
        tokenizer.train_from_iterator(file.read().split("\n")[:24], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    if kind != "bytes":
        model.update(byte_fallback=True, fuse_unk=True)
    return model


def finish(model, tokens, post=None, normalizer=None, pre=None, **options):
    """A tokenizer.json; ids of new tokens follow the vocabulary's."""
    model = json.loads(json.dumps({**model, **options}))
    vocab, entries = model["vocab"], []
    for token in tokens:
        known = vocab.get(token["content"])
        if known is None:
            known = len(vocab) + sum(entry["id"] >= len(vocab) for entry in entries)
        entries.append({"id": known, **token})
    ids = {**vocab, **{entry["content"]: entry["id"] for entry in entries}}
    for part in [post] + (post or {}).get("processors", []):
        if part and part["type"] == "TemplateProcessing":
            part["special_tokens"] = {token: {"id": token, "ids": [ids[token]], "tokens": [token]}
                                      for token in part["special_tokens"]}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": entries,
            "normalizer": normalizer, "pre_tokenizer": pre, "post_processor": post,
            "decoder": None, "model": model}


def replace(pattern, content):
    return {"type": "Replace", "pattern": {"String": pattern}, "content": content}


def split(pattern, behavior="Isolated", kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": False}


def byte_level(**options):
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True,
            **options}


def steps(*made):
    return {"type": "Sequence", "pretokenizers": list(made)}


def old_merges(made):
    made["model"]["merges"] = [" ".join(merge) for merge in made["model"]["merges"]]
    return made


def shapes():
    characters, byte_model = learn("characters", 520), learn("bytes", 460)
    control = [added("<unk>"), added("<s>"), added("</s>")]
    llama = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": MARK},
                                                 replace(" ", MARK)]}
    plain = byte_level(use_regex=False)
    ends = [added("<|endoftext|>"), added("<|im_start|>"), added("<|im_end|>")]

    gemma = json.loads(json.dumps(characters))
    for token in ("\n\n", "\n\n\n", MARK * 2, MARK * 3, "\t", "<table>"):
        gemma["vocab"][token] = len(gemma["vocab"])
    yield "gemma-2", finish(
        gemma, control + [added(token, special=False) for token in
                          ("\n\n", "\n\n\n", MARK * 2, MARK * 3, "\t", "<table>")]
        + [added("<start_of_turn>")],
        template("<s>"), replace(" ", MARK), split(" ", "MergedWithPrevious", "String"))
    yield "phi-3", old_merges(finish(
        characters, [added("<unk>"), added("<s>"), added("</s>", rstrip=True, special=False),
                     added("<|endoftext|>"), added("<|im_start|>", rstrip=True),
                     added("<|im_end|>", lstrip=True, rstrip=True),
                     added("[INST]", single_word=True, normalized=True, special=False),
                     added("<pad>", single_word=True)],
        template(), llama))
    yield "mistral-v0.3", finish(
        characters, control + [added("[INST]"), added("[/INST]")], template("<s>"), None,
        {"type": "Metaspace", "replacement": MARK, "prepend_scheme": "first", "split": False})
    yield "nemo", finish(byte_model, [added("<unk>"), added("<s>"), added("</s>"), added("[INST]")],
                         template("<s>"), None, steps(split(TEKKEN), plain), ignore_merges=True)
    yield "qwen-3", finish(byte_model, ends + [added("<pad>", special=False)], byte_level(
        trim_offsets=False, use_regex=False), {"type": "NFC"}, steps(split(QWEN), plain))
    yield "llama-3", finish(
        byte_model, [added("<|begin_of_text|>"), added("<|end_of_text|>"), added("<|eot_id|>")],
        {"type": "Sequence", "processors": [byte_level(trim_offsets=False),
                                            template("<|begin_of_text|>")]},
        None, steps(split(CL100K), plain), ignore_merges=True)
    yield "smollm", old_merges(finish(byte_model, ends, None, None, steps(
        {"type": "Digits", "individual_digits": True}, byte_level())))
    yield "starcoder", finish(byte_model, ends, None, None, steps(
        {"type": "Digits", "individual_digits": False}, byte_level(add_prefix_space=True)))
    spaces = [added(" " * n, normalized=True, special=False) for n in (8, 4, 3, 2)]
    yield "gpt-neox", old_merges(finish(byte_model, ends + [added("<|padding|>")] + spaces, byte_level(),
                                        {"type": "NFC"}, byte_level()))
    yield "gpt-2-prefix", finish(byte_model, ends, byte_level(add_prefix_space=True), None,
                                 byte_level(add_prefix_space=True))
    yield "no-pattern", finish(byte_model, ends, None, None, byte_level(
        add_prefix_space=True, use_regex=False, trim_offsets=False))
    yield "deepseek", finish(byte_model, ends, template("<|endoftext|>"), None, steps(
        *[split(pattern) for pattern in DEEPSEEK], {"type": "Digits", "individual_digits": True},
        plain))
    yield "deepseek-3", finish(byte_model, ends, template("<|endoftext|>"), None, steps(
        split(r"\p{N}{1,3}"), split("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"), split(DEEPSEEK_3),
        plain))
    odd = json.loads(json.dumps(byte_model))
    odd["vocab"] = {token: index + 1000 * (index >= 440) for token, index in odd["vocab"].items()}
    odd = old_merges(finish(odd, ends, None, None, steps(split(QWEN), plain)))
    for key in ("dropout", "unk_token", "fuse_unk", "byte_fallback", "continuing_subword_prefix"):
        del odd["model"][key]
    first = odd["added_tokens"][0]
    odd["added_tokens"] += [{**first, "rstrip": True}, {**first, "lstrip": True}]
    yield "odd", odd  # holes in the vocabulary, a token three times, members left out
    bare = finish(characters, control, template("<s>"), llama, dropout=0.0, byte_fallback=False)
    del bare["model"]["type"]
    yield "no-type", bare


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    os.makedirs(sys.argv[1], exist_ok=True)
    for name, made in shapes():
        text = json.dumps(made, ensure_ascii=True, separators=(",", ":"))
        Tokenizer.from_str(text)
        with open(os.path.join(sys.argv[1], name + ".json"), "w", encoding="ascii") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    main()
