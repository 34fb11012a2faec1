#!/usr/bin/env python3
"""Tiny random checkpoints of every model family, and what transformers computes with them.

    python3 tests/golden/families.py [--output tests/golden/families] [CASE ...]

Each case is a folder as save_pretrained() writes it, and in it reference.h5, computed in float64:

    ids      i32[N]      two sequences, the second one shorter than every window and threshold
    offsets  i64[3]      where they begin and end
    losses   f64[2]      mean next-token cross-entropy of each sequence
    nll      f64[N-2]    of each target, in the order of the tokens
    greedy   u8[N-2]     1 where the target is the argmax
    rows     i64[R]      tokens whose logits are kept
    logits   f32[R,V]
    u        f32[L,N,m]  input of the down projection
    du       f32[L,N,m]  the gradient of the sequence's loss for u

The weights are drawn so that nothing is degenerate: attention is far from uniform, caps and clips
bite, norm weights are not 1, biases not 0. tokenizer.json, beside the cases, goes with all of them.
Written with transformers 5.23.0, torch 2.13.0, tokenizers and h5py; run-to-run the files are equal.
"""
import argparse
import contextlib
import json
import os
import shutil

import h5py
import numpy as np
import safetensors.torch
import tokenizers
import torch
import transformers

transformers.utils.logging.disable_progress_bar()

TEXTS = ["The old man waited for them at the calm river.", "The rain."]
MERGES_FROM = "The man and the old river waited there for the rain at the calm of them all. "

BASE = dict(hidden_size=24, intermediate_size=36, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, vocab_size=288, max_position_embeddings=64,
            bos_token_id=0, eos_token_id=1, pad_token_id=None)
LLAMA = dict(BASE, model_type="llama", head_dim=8)
LONG, SHORT = [1.0, 2.5, 3.0, 6.5, 9.0, 12.0], [1.0, 1.05, 1.1, 1.2, 1.3, 1.5]


def rope(kind, **more):
    return dict(rope_type=kind, rope_theta=100.0, **more)


# Configuration; "dtypes" (of matrices, of vectors) and "shard" are ours.
CASES = {
    "llama": dict(LLAMA),
    "llama3": dict(LLAMA, rope_parameters=rope("llama3", factor=8.0, low_freq_factor=1.0,
                                               high_freq_factor=4.0,
                                               original_max_position_embeddings=20)),
    "llama-linear": dict(LLAMA, rope_parameters=rope("linear", factor=3.0)),
    "llama-dynamic": dict(LLAMA, max_position_embeddings=16,
                          rope_parameters=rope("dynamic", factor=2.0)),
    "llama-yarn": dict(LLAMA, rope_parameters=rope("yarn", factor=4.0, beta_fast=2.0,
                                                   beta_slow=0.25,
                                                   original_max_position_embeddings=16)),
    "llama-bias": dict(LLAMA, attention_bias=True, mlp_bias=True, head_dim=6),
    "llama-tied": dict(LLAMA, tie_word_embeddings=True),
    "llama-sharded": dict(LLAMA, shard="12KB"),
    "mistral": dict(BASE, model_type="mistral", sliding_window=8, dtypes=("F16", "F16")),
    "qwen2": dict(BASE, model_type="qwen2", tie_word_embeddings=True, sliding_window=5),
    "qwen2-window": dict(BASE, model_type="qwen2", num_hidden_layers=3, use_sliding_window=True,
                         sliding_window=6, max_window_layers=1),
    "qwen3": dict(BASE, model_type="qwen3", head_dim=10, attention_bias=True,
                  tie_word_embeddings=True),
    "olmo": dict(BASE, model_type="olmo", clip_qkv=1.5, tie_word_embeddings=True),
    "olmo2": dict(BASE, model_type="olmo2"),
    "gemma2": dict(BASE, model_type="gemma2", num_hidden_layers=3, num_attention_heads=6,
                   head_dim=8, query_pre_attn_scalar=5, sliding_window=7,
                   attn_logit_softcapping=3.0, final_logit_softcapping=4.0),
    "phi3": dict(BASE, model_type="phi3", num_attention_heads=2, num_key_value_heads=1,
                 sliding_window=9, rope_parameters=dict(rope("default"),
                                                        partial_rotary_factor=0.5)),
    "phi3-longrope": dict(BASE, model_type="phi3", num_attention_heads=2, num_key_value_heads=1,
                          original_max_position_embeddings=16,
                          rope_parameters=rope("longrope", short_factor=SHORT, long_factor=LONG)),
    "gpt2": dict(model_type="gpt2", n_embd=24, n_inner=40, n_layer=2, n_head=3, vocab_size=288,
                 n_positions=64, bos_token_id=0, eos_token_id=1, dtypes=("F32", "F32")),
}

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@contextlib.contextmanager
def everything_in_double():
    """The models compute norms, softmax and rotary positions in float32; make that float64."""
    names = {name: getattr(torch, name) for name in ("float", "float32", "get_default_dtype")}
    to_float = torch.Tensor.float
    torch.set_default_dtype(torch.float64)
    torch.float = torch.float32 = torch.float64
    torch.Tensor.float = torch.Tensor.double
    try:
        yield
    finally:
        torch.float, torch.float32 = names["float"], names["float32"]
        torch.Tensor.float = to_float
        torch.set_default_dtype(torch.float32)


def make_tokenizer(path):
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=288, special_tokens=["<s>", "</s>"], show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator([MERGES_FROM * 4], trainer)
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.save(path)
    return tokenizer


def draw(model, dtypes, seed):
    """Random weights, rounded to the dtypes that are saved."""
    generator = torch.Generator().manual_seed(seed)
    gemma = model.config.model_type == "gemma2"
    for name, parameter in sorted(model.named_parameters()):
        value = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() == 2:
            into = parameter.shape[0] if "c_" in name else parameter.shape[1]
            scale = 1.5 / into**0.5
            if "embed_tokens" in name or "wte" in name:
                scale = 1.5 / into**0.5 if model.config.tie_word_embeddings else 1.0
            elif "wpe" in name:
                scale = 0.5
            value *= scale
        elif name.endswith("bias"):
            value *= 0.3
        else:
            value = 0.3 * value + (0.0 if gemma else 1.0)
        dtype = dtypes[0] if parameter.dim() == 2 else dtypes[1]
        parameter.data = value.to(DTYPES[dtype])


def load(folder):
    """The model of a folder in float64."""
    config = transformers.AutoConfig.from_pretrained(folder)
    weights = {}
    for name in sorted(os.listdir(folder)):
        if name.endswith(".safetensors"):
            weights.update(safetensors.torch.load_file(os.path.join(folder, name)))
    weights = {name: value.double() for name, value in weights.items()}
    config.dtype = torch.float64
    with everything_in_double():
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    model.tie_weights()
    for value in [*model.parameters(), *model.buffers()]:
        assert value.dtype in (torch.float64, torch.bool, torch.int64), value.dtype
    return model.eval()


def down_projections(model):
    if model.config.model_type == "gpt2":
        return [block.mlp.c_proj for block in model.transformer.h]
    return [layer.mlp.down_proj for layer in model.model.layers]


def run(model, ids):
    """Logits, NLL, u and du of one sequence."""
    kept = []

    def keep(_, inputs):
        inputs[0].retain_grad()
        kept.append(inputs[0])

    hooks = [module.register_forward_pre_hook(keep) for module in down_projections(model)]
    with everything_in_double():
        logits = model(torch.tensor([ids]), use_cache=False).logits[0]
        nll = torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(ids[1:]),
                                                reduction="none")
        nll.mean().backward()
    for hook in hooks:
        hook.remove()
    greedy = logits[:-1].argmax(-1) == torch.tensor(ids[1:])
    return (logits.detach().numpy(), nll.detach().numpy(), greedy.numpy(),
            np.stack([u.detach()[0].numpy() for u in kept]),
            np.stack([u.grad[0].numpy() for u in kept]))


def check_against_float32(folder, ids, logits):
    """That the model in float64 is the one that everybody else loads."""
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        other = model(torch.tensor([ids]), use_cache=False).logits[0].numpy()
    error = np.abs(other - logits).max() / np.abs(logits).max()
    assert error < 2e-5, f"{folder}: float32 differs by {error}"
    return error


def report(name, model, logits, error):
    spread = np.std(logits, axis=1).mean()
    print(f"{name:14} {sum(p.numel() for p in model.parameters()):6} parameters, "
          f"logits' deviation {spread:.2f}, float32 within {error:.1e}")


def write(path, sequences, results):
    rows, logits, base = [], [], 0
    for ids, result in zip(sequences, results):
        chosen = sorted({0, 1, len(ids) // 2, len(ids) - 1})
        rows += [base + row for row in chosen]
        logits.append(result[0][chosen])
        base += len(ids)
    with h5py.File(path, "w", libver="latest") as file:
        file["ids"] = np.concatenate(sequences).astype(np.int32)
        file["offsets"] = np.cumsum([0] + [len(ids) for ids in sequences]).astype(np.int64)
        file["losses"] = np.array([result[1].mean() for result in results])
        file["nll"] = np.concatenate([result[1] for result in results])
        file["greedy"] = np.concatenate([result[2] for result in results]).astype(np.uint8)
        file["rows"] = np.array(rows, dtype=np.int64)
        file["logits"] = np.concatenate(logits).astype(np.float32)
        file["u"] = np.concatenate([result[3] for result in results], axis=1).astype(np.float32)
        file["du"] = np.concatenate([result[4] for result in results], axis=1).astype(np.float32)


def make(name, folder, sequences):
    settings = dict(CASES[name])
    dtypes = settings.pop("dtypes", ("BF16", "F32"))
    shard = settings.pop("shard", "1GB")
    config = transformers.AutoConfig.for_model(**settings)
    model = transformers.AutoModelForCausalLM.from_config(config)
    # The cases of Llama differ in their config.json alone where they can.
    draw(model, dtypes, seed=11)
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder, max_shard_size=shard)
    generation = os.path.join(folder, "generation_config.json")
    if os.path.exists(generation):
        os.remove(generation)
    for file in os.listdir(folder):
        os.chmod(os.path.join(folder, file), 0o644)
    model = load(folder)
    results = [run(model, ids) for ids in sequences]
    error = max(check_against_float32(folder, ids, result[0])
                for ids, result in zip(sequences, results))
    report(name, model, results[0][0], error)
    write(os.path.join(folder, "reference.h5"), sequences, results)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default="tests/golden/families")
    parser.add_argument("cases", nargs="*")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    transformers.logging.set_verbosity_error()
    os.makedirs(arguments.output, exist_ok=True)
    tokenizer = make_tokenizer(os.path.join(arguments.output, "tokenizer.json"))
    sequences = [tokenizer.encode(text).ids for text in TEXTS]
    print("tokens:", [len(ids) for ids in sequences], json.dumps(sequences[1]))
    for name in arguments.cases or CASES:
        make(name, os.path.join(arguments.output, name), sequences)


if __name__ == "__main__":
    main()
