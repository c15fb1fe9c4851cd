#!/usr/bin/env python3
"""Sits the held-out exam and prints, per skill, the share of answers that equal the reference exactly.

`--gguf FILE` runs the weights of a GGUF file in plain PyTorch (model.py): independent of the C++ engine. Of a model with
an MTP layer it also says how often that layer's token was the model's own.
`--base-url URL --key KEY` asks any OpenAI-compatible server at temperature 0; only the standard library is needed.
"""

import argparse
import collections
import json
import os
import sys
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
ACCEPTANCE = collections.Counter()  # of the MTP layer's tokens


def ask_gguf(path):
    import numpy as np
    import torch

    import gguf
    import model
    import mtp
    import quantise
    from tokenizer import Tokenizer

    torch.set_num_threads(1)
    file = gguf.Reader(path)
    meta = file.metadata
    unpack = {
        gguf.TENSOR_F32: lambda data, shape: np.frombuffer(data, "<f4").reshape(shape).copy(),
        gguf.TENSOR_F16: lambda data, shape: np.frombuffer(data, "<f2").astype(np.float32).reshape(shape),
        gguf.TENSOR_Q4_0: quantise.unpack_q4_0, gguf.TENSOR_Q8_0: quantise.unpack_q8_0,
    }
    tensors = {name: torch.from_numpy(unpack[kind](data, shape)) for name, (shape, kind, data) in file.tensors.items()}
    if meta["general.architecture"] == "qwen2":
        config = mtp.from_gguf_metadata(meta)
        weights = mtp.from_gguf(tensors, config)
    else:
        config = model.Config(
            vocab_size=len(meta["tokenizer.ggml.tokens"]), d_model=meta["phi3.embedding_length"],
            n_layers=meta["phi3.block_count"], n_heads=meta["phi3.attention.head_count"],
            n_kv_heads=meta["phi3.attention.head_count_kv"], d_ff=meta["phi3.feed_forward_length"],
            rope_theta=meta["phi3.rope.freq_base"], rms_eps=meta["phi3.attention.layer_norm_rms_epsilon"],
            context_length=meta["phi3.context_length"])
        assert config.rotary_dim == meta["phi3.rope.dimension_count"]
        weights = {name.removesuffix(".weight"): tensor for name, tensor in tensors.items()}
    tokens = meta["tokenizer.ggml.tokens"]
    special = [t for t, kind in zip(tokens, meta["tokenizer.ggml.token_type"]) if kind == 3]
    merges = [tuple(line.split(" ")) for line in meta["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(tokens, merges, special)
    stop = {tokenizer.ids["<|end|>"], tokenizer.ids["<|endoftext|>"]}

    def ask(messages):
        prompt = tokenizer.encode_chat(messages)
        out = model.answer(weights, config, prompt, stop)
        if config.n_mtp_layers:
            said = mtp.agreement(weights, config, prompt, out + [tokenizer.ids["<|end|>"]])
            ACCEPTANCE["asked"] += len(said)
            ACCEPTANCE["right"] += sum(said)
        return tokenizer.decode(out)
    return ask


def ask_server(base_url, key, name):
    def ask(messages):
        body = json.dumps({"model": name, "messages": messages, "temperature": 0, "max_tokens": 80}).encode()
        request = urllib.request.Request(base_url.rstrip("/") + "/chat/completions", body, {
            "Content-Type": "application/json", "Authorization": f"Bearer {key}"})
        with urllib.request.urlopen(request, timeout=120) as response:
            return json.load(response)["choices"][0]["message"]["content"]
    return ask


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--gguf", metavar="FILE")
    where.add_argument("--base-url", metavar="URL", help="for example http://127.0.0.1:7070/v1")
    parser.add_argument("--key", default="none")
    parser.add_argument("--model", default="demo", help="the model's name at the server")
    parser.add_argument("--exam", default=os.path.join(HERE, "exam.jsonl"))
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every Nth question, for a quick look")
    parser.add_argument("--min-overall", type=float, default=0.95, help="share of all answers")
    parser.add_argument("--min-skill", type=float, default=0.85, help="share in each skill")
    parser.add_argument("--wrong", action="store_true", help="print the wrong answers")
    args = parser.parse_args()
    ask = ask_gguf(args.gguf) if args.gguf else ask_server(args.base_url, args.key, args.model)
    right, asked = collections.Counter(), collections.Counter()
    with open(args.exam, encoding="utf-8") as file:
        items = [json.loads(line) for line in file][::args.every]
    for item in items:
        answer = ask(item["messages"])
        asked[item["skill"]] += 1
        right[item["skill"]] += answer == item["answer"]
        if args.wrong and answer != item["answer"]:
            print(f"{item['id']}: {item['messages'][-1]['content']}\n  expected {item['answer']}\n  got      {answer}")
    shares = {skill: right[skill] / asked[skill] for skill in asked}
    overall = sum(right.values()) / sum(asked.values())
    print(f"{'skill':<14}{'asked':>6}{'right':>7}{'%':>8}")
    for skill in sorted(asked):
        print(f"{skill:<14}{asked[skill]:>6}{right[skill]:>7}{100 * shares[skill]:>8.1f}")
    print(f"{'overall':<14}{sum(asked.values()):>6}{sum(right.values()):>7}{100 * overall:>8.1f}")
    if ACCEPTANCE["asked"]:
        print(f"MTP layer: {ACCEPTANCE['right']} of {ACCEPTANCE['asked']} tokens, "
              f"{100 * ACCEPTANCE['right'] / ACCEPTANCE['asked']:.1f} %")
    return 1 if overall < args.min_overall or min(shares.values()) < args.min_skill else 0


if __name__ == "__main__":
    sys.exit(main())
