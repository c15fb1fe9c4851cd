"""The second demo model: MiMo's architecture, made from the first model's weights.

MiMo differs from Phi-4-mini where the first model can be carried over exactly: q, k and v get a bias (0 to begin with),
the head becomes a matrix of its own (a copy of the embedding), and all of a head is rotated instead of three quarters.
The last one works because rotary frequencies are a geometric series: with theta' = theta^(4/3) the first 12 of 16 pairs
turn as fast as the 12 pairs of 24 dims did with theta, and the other 4 pairs turn by less than 1/20 of a radian within
a conversation's 450 tokens, so that the 8 dims that used to stand still may live there.
"""

import torch

import gguf
import model

CONFIG = model.Config(rotary_factor=1.0, rope_theta=10000.0 ** (4 / 3), qkv_bias=True, tied_head=False, n_mtp_layers=1)


def spread(rows, old):
    """Rows [heads*32, d_model] of q or k whose first 24 dims were rotated, reordered for pairs (i, i+16)."""
    half, dim = old.rotary_dim // 2, old.head_dim
    rest = (dim - 2 * half) // 2
    order = [*range(half), *range(2 * half, 2 * half + rest), *range(half, 2 * half), *range(2 * half + rest, dim)]
    return rows.view(-1, dim, rows.shape[1])[:, order].reshape(rows.shape)


def warm_start(saved, weights):
    """Fills `weights` from a checkpoint of the first model, except the MTP layer; returns its step and tokens."""
    old = model.Config(**saved["config"])
    assert (old.d_model, old.n_layers, old.tied_head, old.rotary_dim) == (CONFIG.d_model, CONFIG.n_layers, True, 24)
    flat, at = saved["state"]["weights"], 0
    for name, shape in old.shapes().items():
        size = torch.Size(shape).numel()
        value = flat[at:at + size].view(shape)
        at += size
        if name.endswith("attn_qkv"):
            turned = (old.n_heads + old.n_kv_heads) * old.head_dim
            value = torch.cat([spread(value[:turned], old), value[turned:]])
        weights[name].copy_(value)
    weights["output"].copy_(weights["token_embd"])
    return saved["step"], saved["tokens"]


def metadata(config):
    """The keys of a qwen2 GGUF file with an MTP layer in the nextn convention, where it counts as a block."""
    return [
        ("general.architecture", gguf.STRING, "qwen2"),
        ("general.type", gguf.STRING, "model"),
        ("general.name", gguf.STRING, "Tandem Demo MTP"),
        ("general.basename", gguf.STRING, "tandem-demo-mtp"),
        ("general.size_label", gguf.STRING, "1.9M"),
        ("general.license", gguf.STRING, "apache-2.0"),
        ("qwen2.context_length", gguf.U32, config.context_length),
        ("qwen2.embedding_length", gguf.U32, config.d_model),
        ("qwen2.feed_forward_length", gguf.U32, config.d_ff),
        ("qwen2.block_count", gguf.U32, config.n_layers + config.n_mtp_layers),
        ("qwen2.nextn_predict_layers", gguf.U32, config.n_mtp_layers),
        ("qwen2.attention.head_count", gguf.U32, config.n_heads),
        ("qwen2.attention.head_count_kv", gguf.U32, config.n_kv_heads),
        ("qwen2.attention.layer_norm_rms_epsilon", gguf.F32, config.rms_eps),
        ("qwen2.rope.freq_base", gguf.F32, config.rope_theta),
    ]


def from_gguf_metadata(meta):
    n_mtp_layers = meta["qwen2.nextn_predict_layers"]
    return model.Config(
        vocab_size=len(meta["tokenizer.ggml.tokens"]), d_model=meta["qwen2.embedding_length"],
        n_layers=meta["qwen2.block_count"] - n_mtp_layers, n_heads=meta["qwen2.attention.head_count"],
        n_kv_heads=meta["qwen2.attention.head_count_kv"], d_ff=meta["qwen2.feed_forward_length"], rotary_factor=1.0,
        rope_theta=meta["qwen2.rope.freq_base"], rms_eps=meta["qwen2.attention.layer_norm_rms_epsilon"],
        context_length=meta["qwen2.context_length"], qkv_bias=True, tied_head=False, n_mtp_layers=n_mtp_layers)


# Names here, in GGUF and in Hugging Face's files: of a block, and of what an MTP layer has beside a block.
BLOCK = [("attn_norm", "attn_norm.weight", "input_layernorm.weight"),
         ("attn_output", "attn_output.weight", "self_attn.o_proj.weight"),
         ("ffn_norm", "ffn_norm.weight", "post_attention_layernorm.weight"),
         ("ffn_down", "ffn_down.weight", "mlp.down_proj.weight")]
MTP = [("hidden_norm", "nextn.hnorm.weight", "hidden_layernorm.weight"),
       ("token_norm", "nextn.enorm.weight", "token_layernorm.weight"),
       ("final_norm", "nextn.shared_head_norm.weight", "final_layernorm.weight"),
       ("input_proj", "nextn.eh_proj.weight", "input_proj.weight")]
WHOLE = [("token_embd", "token_embd.weight", "model.embed_tokens.weight"),
         ("output_norm", "output_norm.weight", "model.norm.weight"), ("output", "output.weight", "lm_head.weight")]


def named(weights, config):
    """(name here, name in GGUF, Hugging Face's name, tensor) with fused matrices taken apart."""
    for ours, theirs, hub in WHOLE:
        yield ours, theirs, hub, weights[ours]
    q, kv = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
    for n in range(config.n_layers + config.n_mtp_layers):
        is_mtp = n >= config.n_layers
        at = f"model.mtp_layers.{n - config.n_layers}." if is_mtp else f"model.layers.{n}."
        for ours, theirs, hub in BLOCK + (MTP if is_mtp else []):
            yield f"blk.{n}.{ours}", f"blk.{n}.{theirs}", at + hub, weights[f"blk.{n}.{ours}"]
        for kind, fused in (("weight", "attn_qkv"), ("bias", "attn_qkv_bias")):
            for part, tensor in zip("qkv", weights[f"blk.{n}.{fused}"].split([q, kv, kv])):
                yield None, f"blk.{n}.attn_{part}.{kind}", f"{at}self_attn.{part}_proj.{kind}", tensor
        for part, tensor in zip(("gate", "up"), weights[f"blk.{n}.ffn_up"].chunk(2)):
            yield None, f"blk.{n}.ffn_{part}.weight", f"{at}mlp.{part}_proj.weight", tensor


def swapped(input_proj):
    """GGUF's nextn convention has the token's half first, MiMo the hidden state's."""
    hidden, token = input_proj.chunk(2, 1)
    return torch.cat([token, hidden], 1)


def to_gguf(weights, config):
    return {theirs: (swapped(tensor) if theirs.endswith("eh_proj.weight") else tensor).contiguous()
            for _, theirs, _, tensor in named(weights, config)}


def to_huggingface(weights, config):
    return {hub: tensor.contiguous() for _, _, hub, tensor in named(weights, config)}


def from_gguf(tensors, config):
    """The inverse of to_gguf."""
    weights = {}
    for n in range(config.n_layers + config.n_mtp_layers):
        p = f"blk.{n}."
        weights[p + "attn_qkv"] = torch.cat([tensors[f"{p}attn_{part}.weight"] for part in "qkv"])
        weights[p + "attn_qkv_bias"] = torch.cat([tensors[f"{p}attn_{part}.bias"] for part in "qkv"])
        weights[p + "ffn_up"] = torch.cat([tensors[f"{p}ffn_{part}.weight"] for part in ("gate", "up")])
        for ours, theirs, _ in BLOCK + (MTP if n >= config.n_layers else []):
            weights[p + ours] = tensors[p + theirs]
        if n >= config.n_layers:
            weights[p + "input_proj"] = swapped(weights[p + "input_proj"])
    for ours, theirs, _ in WHOLE:
        weights[ours] = tensors[theirs]
    return weights


@torch.no_grad()
def agreement(weights, config, prompt, answer):
    """Whether the MTP layer, after each token of the answer but the last, says the next one."""
    ids = torch.tensor([prompt + answer])
    x = model.hidden(weights, config, ids)
    said = model.mtp_forward(weights, config, model.shifted(x), ids).argmax(-1)[0]
    return [int(said[p]) == int(ids[0, p + 1]) for p in range(len(prompt), ids.shape[1] - 1)]
