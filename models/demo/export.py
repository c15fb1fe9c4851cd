#!/usr/bin/env python3
"""Writes a checkpoint as GGUF: tandem-demo-f16.gguf and tandem-demo-q4_0.gguf.

The keys are those that llama.cpp's converter writes for Phi-4-mini. In the int4 file the linear weights are Q4_0
with the scales of least squared error per block; the embedding, which is the output head too, is Q8_0, as
llama.cpp's own mixes keep the tied head at higher precision.
"""

import argparse
import os

import torch

import gguf
import quantise
from model import Config
from tokenizer import Tokenizer
from train import HERE, views

# Phi-4-mini's template; the format is tested byte for byte in test_generate.py.
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'system' and 'tools' in message and message['tools'] is "
    "not none %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|tool|>' + message['tools'] + '<|/tool|>' + "
    "'<|end|>' }}{% else %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}"
)
FILE_TYPE_F16, FILE_TYPE_Q4_0 = 1, 2
TOKEN_NORMAL, TOKEN_CONTROL = 1, 3


def metadata(config, tokenizer, file_type):
    ids = tokenizer.ids
    kinds = [TOKEN_CONTROL if token in tokenizer.special else TOKEN_NORMAL for token in tokenizer.tokens]
    end = ids["<|endoftext|>"]
    return [
        ("general.architecture", gguf.STRING, "phi3"),
        ("general.type", gguf.STRING, "model"),
        ("general.name", gguf.STRING, "Tandem Demo"),
        ("general.basename", gguf.STRING, "tandem-demo"),
        ("general.size_label", gguf.STRING, "1.4M"),
        ("general.license", gguf.STRING, "apache-2.0"),
        ("phi3.context_length", gguf.U32, config.context_length),
        ("phi3.rope.scaling.original_context_length", gguf.U32, config.context_length),
        ("phi3.embedding_length", gguf.U32, config.d_model),
        ("phi3.feed_forward_length", gguf.U32, config.d_ff),
        ("phi3.block_count", gguf.U32, config.n_layers),
        ("phi3.attention.head_count", gguf.U32, config.n_heads),
        ("phi3.attention.head_count_kv", gguf.U32, config.n_kv_heads),
        ("phi3.attention.layer_norm_rms_epsilon", gguf.F32, config.rms_eps),
        ("phi3.rope.dimension_count", gguf.U32, config.rotary_dim),
        ("phi3.rope.freq_base", gguf.F32, config.rope_theta),
        ("phi3.attention.sliding_window", gguf.U32, 0),
        ("phi3.rope.scaling.attn_factor", gguf.F32, 1.0),
        ("tokenizer.ggml.model", gguf.STRING, "gpt2"),
        ("tokenizer.ggml.pre", gguf.STRING, "gpt-4o"),
        ("tokenizer.ggml.tokens", gguf.ARRAY, (gguf.STRING, tokenizer.tokens)),
        ("tokenizer.ggml.token_type", gguf.ARRAY, (gguf.I32, kinds)),
        ("tokenizer.ggml.merges", gguf.ARRAY, (gguf.STRING, [f"{a} {b}" for a, b in tokenizer.merges])),
        ("tokenizer.ggml.bos_token_id", gguf.U32, end),
        ("tokenizer.ggml.eos_token_id", gguf.U32, ids["<|end|>"]),
        ("tokenizer.ggml.unknown_token_id", gguf.U32, end),
        ("tokenizer.ggml.padding_token_id", gguf.U32, end),
        ("tokenizer.ggml.add_bos_token", gguf.BOOL, False),
        ("tokenizer.ggml.add_eos_token", gguf.BOOL, False),
        ("tokenizer.chat_template", gguf.STRING, CHAT_TEMPLATE),
        ("general.quantization_version", gguf.U32, 2),
        ("general.file_type", gguf.U32, file_type),
    ]


def tensors(weights, config, int4):
    ones = torch.ones(config.rotary_dim // 2).numpy().tobytes()
    result = [(f"rope_factors_{kind}.weight", (config.rotary_dim // 2,), gguf.TENSOR_F32, ones)
              for kind in ("long", "short")]
    for name, weight in weights.items():
        if weight.dim() == 1:
            packed = gguf.TENSOR_F32, weight.numpy().tobytes()
        elif not int4:
            packed = gguf.TENSOR_F16, weight.half().numpy().tobytes()
        elif quantise.is_quantised(name):
            packed = gguf.TENSOR_Q4_0, quantise.pack_q4_0(weight)
        else:
            packed = gguf.TENSOR_Q8_0, quantise.pack_q8_0(weight)
        result.append((name + ".weight", tuple(weight.shape), *packed))
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint")
    parser.add_argument("--out", default=HERE, metavar="DIR")
    parser.add_argument("--average", action="store_true", help="take the running average of the weights")
    args = parser.parse_args()
    saved = torch.load(args.checkpoint)
    config = Config(**saved["config"])
    weights = views(saved["state"]["average" if args.average else "weights"], config)
    tokenizer = Tokenizer.load(os.path.join(HERE, "tokenizer.json"))
    for name, int4, file_type in (("f16", False, FILE_TYPE_F16), ("q4_0", True, FILE_TYPE_Q4_0)):
        path = os.path.join(args.out, f"tandem-demo-{name}.gguf")
        gguf.write(path, metadata(config, tokenizer, file_type), tensors(weights, config, int4))
        print(f"{path}: {os.path.getsize(path)} bytes, step {saved['step']}, {saved['tokens']} tokens")


if __name__ == "__main__":
    main()
