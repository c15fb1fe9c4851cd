#!/usr/bin/env python3
"""Writes a checkpoint: tandem-demo-f16.gguf and tandem-demo-q4_0.gguf of the first model; of the second one
tandem-demo-mtp-q4_0.gguf and tandem-demo-mtp/, a folder in Hugging Face's form (huggingface.py).

The keys are those that llama.cpp's converter writes for Phi-4-mini. In the int4 file the linear weights are Q4_0
with the scales of least squared error per block; the embedding, which is the output head too, is Q8_0, as
llama.cpp's own mixes keep the tied head at higher precision.
"""

import argparse
import os

import torch

import gguf
import huggingface
import mtp
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
    ] + tokenizer_metadata(tokenizer, file_type)


def tokenizer_metadata(tokenizer, file_type):
    ids = tokenizer.ids
    kinds = [TOKEN_CONTROL if token in tokenizer.special else TOKEN_NORMAL for token in tokenizer.tokens]
    end = ids["<|endoftext|>"]
    return [
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
    return result + [packed(name + ".weight", weight, int4) for name, weight in weights.items()]


def packed(name, weight, int4):
    """A tensor of a GGUF file."""
    if weight.dim() == 1:
        kind, data = gguf.TENSOR_F32, weight.numpy().tobytes()
    elif not int4:
        kind, data = gguf.TENSOR_F16, weight.half().numpy().tobytes()
    elif name in ("token_embd.weight", "output.weight"):
        kind, data = gguf.TENSOR_Q8_0, quantise.pack_q8_0(weight)
    else:
        kind, data = gguf.TENSOR_Q4_0, quantise.pack_q4_0(weight)
    return name, tuple(weight.shape), kind, data


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
    print(f"step {saved['step']}, {saved['tokens']} tokens")
    if config.n_mtp_layers:
        path = os.path.join(args.out, "tandem-demo-mtp-q4_0.gguf")
        keys = mtp.metadata(config) + tokenizer_metadata(tokenizer, FILE_TYPE_Q4_0)
        gguf.write(path, keys, [packed(name, w, True) for name, w in mtp.to_gguf(weights, config).items()])
        print(f"{path}: {os.path.getsize(path)} bytes")
        folder = os.path.join(args.out, "tandem-demo-mtp")
        huggingface.write(folder, config, tokenizer, CHAT_TEMPLATE, mtp.to_huggingface(weights, config))
        print(f"{folder}: {sum(os.path.getsize(os.path.join(folder, f)) for f in os.listdir(folder))} bytes")
        return
    for name, int4, file_type in (("f16", False, FILE_TYPE_F16), ("q4_0", True, FILE_TYPE_Q4_0)):
        path = os.path.join(args.out, f"tandem-demo-{name}.gguf")
        gguf.write(path, metadata(config, tokenizer, file_type), tensors(weights, config, int4))
        print(f"{path}: {os.path.getsize(path)} bytes")


if __name__ == "__main__":
    main()
