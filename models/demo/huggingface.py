"""Writes a model as a folder in Hugging Face's form: config.json, the tokenizer, and BF16 tensors in two safetensors
files with their index."""

import json
import os
import struct

import torch

# As in the published tokenizer.json files of this pre-tokeniser.
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def model_config(config, ids):
    return {
        "architectures": ["MiMoForCausalLM"], "model_type": "mimo", "attention_bias": True, "hidden_act": "silu",
        "vocab_size": config.vocab_size, "hidden_size": config.d_model, "intermediate_size": config.d_ff,
        "num_hidden_layers": config.n_layers, "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_kv_heads, "head_dim": config.head_dim, "rms_norm_eps": config.rms_eps,
        "rope_theta": config.rope_theta, "rope_scaling": None, "max_position_embeddings": config.context_length,
        "use_sliding_window": False, "tie_word_embeddings": config.tied_head,
        "num_nextn_predict_layers": config.n_mtp_layers, "torch_dtype": "bfloat16",
        "bos_token_id": ids["<|endoftext|>"], "eos_token_id": ids["<|end|>"]}


def tokenizer_json(tokenizer):
    added = [{"id": tokenizer.ids[text], "content": text, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False, "special": True} for text in tokenizer.special]
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": O200K}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]},
        "post_processor": None, "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "ignore_merges": False, "byte_fallback": False,
                  "vocab": {t: i for i, t in enumerate(tokenizer.tokens) if t not in tokenizer.special},
                  "merges": [list(pair) for pair in tokenizer.merges]}}


def tokenizer_config(tokenizer, chat_template):
    return {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|endoftext|>", "eos_token": "<|end|>",
            "pad_token": "<|endoftext|>", "add_bos_token": False, "chat_template": chat_template}


def write_safetensors(path, tensors):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    data = {name: tensor.bfloat16().view(torch.int16).numpy().tobytes() for name, tensor in tensors.items()}
    for name, tensor in tensors.items():
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [at, at + len(data[name])]}
        at += len(data[name])
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(data.values()))


def write(folder, config, tokenizer, chat_template, tensors):
    os.makedirs(folder, exist_ok=True)
    names = list(tensors)
    shards, half = [{}, {}], sum(t.numel() for t in tensors.values()) / 2
    for name in names:
        first = sum(t.numel() for t in shards[0].values()) + tensors[name].numel() <= half and not shards[1]
        shards[0 if first else 1][name] = tensors[name]
    weight_map = {}
    for i, shard in enumerate(shards):
        file = f"model-{i + 1:05}-of-{len(shards):05}.safetensors"
        write_safetensors(os.path.join(folder, file), shard)
        weight_map.update({name: file for name in shard})
    total = sum(2 * t.numel() for t in tensors.values())
    for file, value in (
            ("config.json", model_config(config, tokenizer.ids)),
            ("generation_config.json", {"bos_token_id": tokenizer.ids["<|endoftext|>"],
                                        "eos_token_id": [tokenizer.ids["<|end|>"], tokenizer.ids["<|endoftext|>"]]}),
            ("tokenizer.json", tokenizer_json(tokenizer)),
            ("tokenizer_config.json", tokenizer_config(tokenizer, chat_template)),
            ("model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": weight_map})):
        with open(os.path.join(folder, file), "w", encoding="utf-8") as out:
            json.dump(value, out, ensure_ascii=False, indent=1 if file != "tokenizer.json" else None)
            out.write("\n")
