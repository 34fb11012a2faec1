#!/usr/bin/env python3
"""Published widths: lode's logits and channel gradients beside those of transformers.

    families_at_scale.py LODE CONFIGS [NAME ...] [--tokens N] [--layers N]

LODE is the program, CONFIGS a folder of published config.json files, one `<name>.json` a model; to
them come the shapes of EXTRA. Each becomes a checkpoint of one or two layers with random weights in
the published type, its vocabulary cut to 8,000 but for some (see WHOLE_VOCABULARY), and deleted
again. For one sequence of N tokens

    lode run experiment.cfg --stages tokenize,calibrate,accumulate

keeps the logits, q = u·∂L/∂u of every token and channel, and the mean of (∂L/∂u)² over the tokens.
Beside them stands what transformers gives in float64 with attention "eager". Prints a line of a
Markdown table a model: the largest error of a logit, of q and of √mean (∂L/∂u)², in units of the
largest value (of the layer, for the last two). Exit status: 0 all at most 1e-4, 1 otherwise.

Needs torch, transformers, safetensors, tokenizers, numpy and h5py, and up to 12 GB; run by hand.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import h5py
import numpy as np
import torch
import transformers
import transformers.initialization

import families

TOLERANCE = 1e-4
VOCABULARY = 8000
WHOLE_VOCABULARY = ("llama3_2_1b", "gemma2_2b")
WIDE = 3072  # models of this width and more have one layer, where layers do not differ

# As the defaults of transformers and the hub have them; the factors of longrope are made up, and
# so is the limit of clip_qkv, published as 8, which random weights would never reach.
OLMO = dict(model_type="olmo", hidden_size=4096, intermediate_size=11008, num_attention_heads=32,
            num_hidden_layers=32, vocab_size=50304, max_position_embeddings=4096,
            torch_dtype="float32", tie_word_embeddings=False)
PHI3 = dict(model_type="phi3", hidden_size=3072, intermediate_size=8192, num_attention_heads=32,
            num_key_value_heads=32, num_hidden_layers=32, vocab_size=32064, rms_norm_eps=1e-5,
            max_position_embeddings=4096, original_max_position_embeddings=4096,
            sliding_window=2047, torch_dtype="bfloat16", tie_word_embeddings=False)
EXTRA = {
    "olmo1_1b": dict(OLMO, hidden_size=2048, intermediate_size=8192, num_attention_heads=16,
                     max_position_embeddings=2048, tie_word_embeddings=True),
    "olmo1_7b_clip": dict(OLMO, clip_qkv=2.0),
    "phi3_mini_4k": PHI3,
    "phi3_mini_128k": dict(PHI3, max_position_embeddings=131072, sliding_window=262144,
                           rope_scaling=dict(type="longrope",
                                             short_factor=[1 + 0.04 * i for i in range(48)],
                                             long_factor=[1 + 0.03 * i**1.9 for i in range(48)])),
}


def shrink(name, published, layers):
    """The published configuration with fewer layers and ids, and special tokens among those."""
    config = dict(published, bos_token_id=0, eos_token_id=1, pad_token_id=None)
    hidden = config.get("hidden_size", config.get("n_embd"))
    alike = config["model_type"] != "gemma2"
    key = "n_layer" if config["model_type"] == "gpt2" else "num_hidden_layers"
    config[key] = layers or (1 if alike and hidden >= WIDE else 2)
    if name not in WHOLE_VOCABULARY:
        config["vocab_size"] = VOCABULARY
    return config


def make_checkpoint(folder, config):
    """Writes the checkpoint and returns its model in float64."""
    (folder / "config.json").write_text(json.dumps(config))
    loaded = transformers.AutoConfig.from_pretrained(folder)
    loaded.dtype = torch.float64
    with families.everything_in_double(), transformers.initialization.no_init_weights():
        model = transformers.AutoModelForCausalLM.from_config(loaded, attn_implementation="eager")
    model.tie_weights()
    dtype = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}[
        config.get("torch_dtype", "float32")]
    families.draw(model, (dtype, dtype), seed=5)
    model.save_pretrained(folder)
    # What save_pretrained() makes of a configuration is not what was published.
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    for parameter in model.parameters():
        parameter.data = parameter.data.double()
        parameter.requires_grad_(False)
    # So that there is a graph, and no gradient of any weight.
    model.get_input_embeddings().register_forward_hook(
        lambda module, args, output: output.requires_grad_(True))
    return model.eval()


def make_tokenizer(folder, vocabulary):
    """The small tokenizer of the families, with its ids spread over the whole vocabulary."""
    small = pathlib.Path(__file__).resolve().parent / "families/tokenizer.json"
    tokenizer = json.loads(small.read_text())
    ids = tokenizer["model"]["vocab"]
    step = (vocabulary - 1) // (len(ids) - 1)
    spread = {token: place if place < 2 else place * step for token, place in ids.items()}
    tokenizer["model"]["vocab"] = spread
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def run_lode(lode, folder, tokens):
    """ids [N], logits [N,V], q [N,L,m] and mean (∂L/∂u)² [L,m]."""
    corpus = pathlib.Path(__file__).resolve().parents[2] / "configs/quickstart/text/calibration.txt"
    (folder / "corpus.txt").write_text(corpus.read_text()[:8 * tokens].replace("\n", " "))
    experiment = folder / "experiment.cfg"
    experiment.write_text(
        f'name = "r"; results = "{folder}"; models = ({{ name = "m"; path = "{folder}"; }});\n'
        f'calibration = {{ corpus = "{folder}/corpus.txt"; sequences = 1; max_length = {tokens}; '
        'loss = "mean"; keep_logits = 1; };\n'
        f"classify = {{ redundancy = {{ sequences = 1; max_length = {tokens}; }}; }};\n")
    done = subprocess.run([lode, "run", experiment, "--stages", "tokenize,calibrate,accumulate"],
                          stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    results = folder / "r/m"
    with h5py.File(results / "tokenize.h5") as file:
        ids = file["calibration/ids"][:]
    with h5py.File(results / "calibrate.h5") as file:
        logits = file["logits"][:]
    with h5py.File(results / "accumulate.h5") as file:
        return ids, logits, file["redundancy/q"][:], file["curvature"][:]


def error(ours, theirs):
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return np.inf
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def check(lode, name, config, tokens):
    with tempfile.TemporaryDirectory() as path:
        folder = pathlib.Path(path)
        model = make_checkpoint(folder, config)
        make_tokenizer(folder, config["vocab_size"])
        ids, logits, q, curvature = run_lode(lode, folder, tokens)
        want_logits, _, _, us, slopes = families.run(model, ids.tolist())
    layers = len(us)
    assert logits.shape == want_logits.shape and q.shape == (len(ids), layers, us.shape[2])
    logit = error(logits, want_logits)
    product = max(error(q[:, l], us[l] * slopes[l]) for l in range(layers))
    slope = max(error(np.sqrt(curvature[l]), np.sqrt(np.mean(slopes[l]**2, axis=0)))
                for l in range(layers))
    hidden = config.get("hidden_size", config.get("n_embd"))
    print(f"| {name} | {config['model_type']} | {hidden} | {us.shape[2]} | {logits.shape[1]} "
          f"| {layers} | {config.get('torch_dtype', 'float32')} | {len(ids)} "
          f"| {np.abs(want_logits).max():.1f} | {logit:.1e} | {product:.1e} | {slope:.1e} |",
          flush=True)
    return max(logit, product, slope)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lode")
    parser.add_argument("configs", type=pathlib.Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--tokens", type=int, default=400)
    parser.add_argument("--layers", type=int, default=0)
    arguments = parser.parse_intermixed_args()
    transformers.logging.set_verbosity_error()
    shapes = {path.stem: json.loads(path.read_text())
              for path in sorted(arguments.configs.glob("*.json"))}
    shapes.update(EXTRA)
    print("| shape | family | d | m | V | layers | type | tokens | max logit | logits | q | ∂L/∂u |\n"
          "|---|---|--:|--:|--:|--:|---|--:|--:|--:|--:|--:|")
    worst = max(check(arguments.lode, name, shrink(name, shapes[name], arguments.layers),
                      arguments.tokens)
                for name in arguments.names or shapes)
    print(f"\nlargest error {worst:.1e}, allowed {TOLERANCE:g}")
    return 0 if worst <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
