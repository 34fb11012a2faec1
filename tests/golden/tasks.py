#!/usr/bin/env python3
"""Tasks as lm_eval 0.4.13 itself answers them, with transformers in float64: what evaluate.h5 should
say.

    tasks.py --model FOLDER --output OUT.h5 NAME=FILE.jsonl[:limit=N][:shots=N][:bos=RULE] ...

The requests of each task file become the documents of an lm_eval task of their own, so that what
encodes, cuts, scores, decides and averages is lm_eval's. Examples (shots) are drawn here by the rule
of pipeline/text/task.h and put before the contexts. Needs lm_eval 0.4.13, torch, transformers, h5py.
"""
import argparse
import importlib.metadata
import json
import os
import tempfile

os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"

import h5py
import numpy as np
import torch
import transformers
from lm_eval.api.task import ConfigurableTask
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM

MASK = (1 << 64) - 1
INCREMENT = 0x9E3779B97F4A7C15


def mix(word):
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & MASK
    return word ^ (word >> 31)


def random_key(seed, purpose, major, minor):
    key = 0
    for word in [seed, *purpose.encode(), len(purpose.encode()), major, minor]:
        key = mix(((key ^ word) + INCREMENT) & MASK)
    return key


def random_below(key, counter, bound):
    return (mix((key + (counter + 1) * INCREMENT) & MASK) * bound) >> 64


def solved(item):
    context, continuation = item["requests"][item["gold"]]
    return context + continuation


def examples(items, index, shots, seed):
    key, counter, chosen = random_key(seed, "examples of a task", index, 0), 0, []
    while len(chosen) < shots:
        other = random_below(key, counter, len(items))
        counter += 1
        if other not in chosen and solved(items[other]) != solved(items[index]):
            chosen.append(other)
    return "".join(solved(items[other]) + "\n\n" for other in chosen)


def documents(items, limit, shots, seed):
    """Documents of lm_eval: what a request's prompt is, its choices without the delimiter, gold."""
    result = []
    for index, item in enumerate(items[:limit or None]):
        prefix = examples(items, index, shots, seed)
        contexts = [prefix + context for context, _ in item["requests"]]
        result.append({"contexts": contexts,
                       "continuations": [continuation for _, continuation in item["requests"]],
                       "gold": item["gold"]})
    return result


def kind_of(docs):
    if all(len(doc["contexts"]) == 1 for doc in docs):
        return "last-word"
    if all(len(set(doc["contexts"])) == 1 for doc in docs):
        return "choice"
    assert all(len(set(doc["continuations"])) == 1 for doc in docs), "contexts and choices both vary"
    return "context"


class Requests(ConfigurableTask):
    """A task whose prompts and choices are those of the documents."""

    def __init__(self, name, docs, folder):
        path = os.path.join(folder, name + ".jsonl")
        kind = kind_of(docs)
        with open(path, "w", encoding="utf-8") as file:
            for doc in docs:
                row = {"gold": doc["gold"]}
                strip = lambda text: text[1:] if text.startswith(" ") else text
                if kind == "context":  # as lm_eval's winogrande has it
                    row["choices"] = doc["contexts"]
                    row["target"] = strip(doc["continuations"][0])
                else:
                    row["text"] = doc["contexts"][0]
                    row["choices"] = [strip(choice) for choice in doc["continuations"]]
                    row["target"] = doc["continuations"][0]
                row["delimited"] = all(c.startswith(" ") for c in doc["continuations"])
                file.write(json.dumps(row) + "\n")
        delimited = {doc["continuations"][0].startswith(" ") for doc in docs}
        assert len(delimited) == 1, "some continuations begin with a space, others do not"
        config = {"task": name, "dataset_path": "json",
                  "dataset_kwargs": {"data_files": {"test": path}, "cache_dir": folder},
                  "test_split": "test", "target_delimiter": " " if delimited.pop() else ""}
        mean = {"aggregation": "mean", "higher_is_better": True}
        if kind == "last-word":
            config |= {"output_type": "loglikelihood", "doc_to_text": "{{text}}",
                       "doc_to_target": "{{target}}", "target_delimiter": "",
                       "metric_list": [{"metric": "perplexity", "aggregation": "perplexity",
                                        "higher_is_better": False}, {"metric": "acc", **mean}]}
        else:
            config |= {"output_type": "multiple_choice", "doc_to_choice": "choices",
                       "metric_list": [{"metric": "acc", **mean}, {"metric": "acc_norm", **mean}]}
            if kind == "context":
                config |= {"doc_to_text": "{{gold}}", "doc_to_target": "{{target}}"}
                config["doc_to_text"] = lambda doc: doc["gold"]
            else:
                config |= {"doc_to_text": lambda doc: doc["text"], "doc_to_target": "gold"}
        super().__init__(config=config)


def answers(model, name, docs, folder):
    """Tables [items, requests] and figures of a task."""
    task = Requests(name, docs, folder)
    results = evaluate(lm=model, task_dict={name: task}, bootstrap_iters=100, log_samples=True)
    width = max(len(doc["contexts"]) for doc in docs)
    likelihood = np.full((len(docs), width), np.nan)
    greedy = np.zeros((len(docs), width), np.uint8)
    tokens = np.full((len(docs), width), -1, np.int32)
    for sample in results["samples"][name]:
        index = sample["doc_id"]
        for request, (arguments, response) in enumerate(zip(sample["arguments"],
                                                            sample["resps"])):
            wanted = (docs[index]["contexts"][request], docs[index]["continuations"][request])
            assert tuple(arguments) == wanted, (arguments, wanted)
            value, flag = response[0]
            likelihood[index, request], greedy[index, request] = float(value), flag
            context, continuation = wanted
            encoded = model._encode_pair(context, continuation) if context else (
                None, model.tok_encode(continuation, add_special_tokens=False))
            tokens[index, request] = len(encoded[1])
    figures = {key.split(",")[0]: value
               for key, value in results["results"][name].items() if isinstance(value, float)}
    return likelihood, greedy, tokens, figures


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("tasks", nargs="+")
    options = parser.parse_args()
    version = importlib.metadata.version("lm_eval")
    assert version == "0.4.13", version
    torch.set_grad_enabled(False)
    causal = transformers.AutoModelForCausalLM.from_pretrained(
        options.model, dtype=torch.float64, attn_implementation="eager")
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=os.path.join(options.model, "tokenizer.json"), bos_token="<s>",
        eos_token="</s>")
    with h5py.File(options.output, "w") as out, tempfile.TemporaryDirectory() as folder:
        out.attrs["lm_eval"] = version
        out.attrs["transformers"] = transformers.__version__
        for text in options.tasks:
            name, rest = text.split("=", 1)
            path, *settings = rest.split(":")
            settings = dict(setting.split("=") for setting in settings)
            with open(path, encoding="utf-8") as file:
                items = [json.loads(line) for line in file if line.strip()]
            shots = int(settings.get("shots", 0))
            docs = documents(items, int(settings.get("limit", 0)), shots, options.seed)
            bos = {"auto": None, "always": True, "never": False}[settings.get("bos", "auto")]
            model = HFLM(pretrained=causal, tokenizer=tokenizer, add_bos_token=bos, batch_size=1,
                         device="cpu", softmax_dtype=torch.float64)
            likelihood, greedy, tokens, figures = answers(model, name, docs, folder)
            group = out.create_group(name)
            for key, value in {"log_likelihood": likelihood, "greedy": greedy, "tokens": tokens,
                               "gold": np.array([doc["gold"] for doc in docs], np.int32)}.items():
                group.create_dataset(key, data=value, compression="gzip", shuffle=True)
            group.attrs["kind"] = kind_of(docs)
            for key, value in figures.items():
                group.attrs[key] = value
            print(name, likelihood.shape, "greedy", int(greedy.sum()),
                  {key: round(value, 5) for key, value in figures.items()}, flush=True)


if __name__ == "__main__":
    main()
