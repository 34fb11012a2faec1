#!/usr/bin/env python3
"""Writes rotary.json: what transformers' ROPE_INIT_FUNCTIONS give for some settings and lengths of
sequences, in float64.

    python3 tests/golden/rotary_fixture.py tests/golden/rotary.json

Written with transformers 5.23.0 and torch 2.13.0.
"""
import json
import sys

import torch
import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from families import everything_in_double

SHORT = [1.0, 1.02, 1.03, 1.05, 1.2, 1.4, 1.6, 2.0]
LONG = [1.0, 1.5, 2.5, 4.0, 8.0, 12.0, 20.0, 32.0]
YARN = dict(rope_type="yarn", rope_theta=10000.0, factor=8.0,
            original_max_position_embeddings=4096)
# Name, max_position_embeddings, lengths, rope_parameters.
CASES = [
    ("linear", 8192, [64], dict(rope_type="linear", rope_theta=10000.0, factor=4.0)),
    ("dynamic", 2048, [64, 2048, 2049, 6000],
     dict(rope_type="dynamic", rope_theta=10000.0, factor=2.5)),
    ("llama3", 131072, [64], dict(rope_type="llama3", rope_theta=500000.0, factor=8.0,
                                  low_freq_factor=1.0, high_freq_factor=4.0,
                                  original_max_position_embeddings=8192)),
    ("llama3", 131072, [64], dict(rope_type="llama3", rope_theta=500000.0, factor=32.0,
                                  low_freq_factor=1.5, high_freq_factor=3.0,
                                  original_max_position_embeddings=1024)),
    ("yarn", 32768, [64], YARN),
    ("yarn", 32768, [64], dict(YARN, beta_fast=16.0, beta_slow=2.0, truncate=False)),
    ("yarn", 32768, [64], dict(YARN, mscale=0.707, mscale_all_dim=1.2)),
    ("yarn", 32768, [64], dict(YARN, mscale=0.707)),
    ("yarn", 32768, [64], dict(YARN, attention_factor=1.3, factor=0.5)),
    ("yarn", 64, [64], dict(YARN, beta_fast=1.0, beta_slow=1.0, truncate=False,
                            original_max_position_embeddings=64)),
    ("yarn", 4096, [64], dict(YARN, original_max_position_embeddings=128)),
    ("longrope", 131072, [4096, 4097],
     dict(rope_type="longrope", rope_theta=10000.0, short_factor=SHORT, long_factor=LONG,
          original_max_position_embeddings=4096)),
    ("longrope", 4096, [64],
     dict(rope_type="longrope", rope_theta=10000.0, short_factor=SHORT, long_factor=LONG,
          original_max_position_embeddings=4096)),
    ("longrope", 131072, [64],
     dict(rope_type="longrope", rope_theta=10000.0, short_factor=SHORT, long_factor=LONG,
          factor=16.0, original_max_position_embeddings=4096)),
    ("longrope", 131072, [64],
     dict(rope_type="longrope", rope_theta=10000.0, short_factor=SHORT, long_factor=LONG,
          attention_factor=1.19, original_max_position_embeddings=4096)),
]


def main():
    out = []
    for kind, longest, lengths, parameters in CASES:
        config = transformers.LlamaConfig(hidden_size=64, num_attention_heads=4,
                                          max_position_embeddings=longest,
                                          rope_parameters=dict(parameters))
        for length in lengths:
            # At first a model of this kind has the frequencies of its usual length.
            where = None if kind == "dynamic" and length <= longest else length
            with everything_in_double():
                frequencies, factor = ROPE_INIT_FUNCTIONS[kind](config, seq_len=where)
            assert frequencies.dtype == torch.float64
            out.append({"max_position_embeddings": longest, "rope_parameters": parameters,
                        "length": length, "attention_factor": factor,
                        "frequencies": frequencies.tolist()})
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        file.write("[\n" + ",\n".join(json.dumps(case) for case in out) + "\n]\n")


if __name__ == "__main__":
    main()
