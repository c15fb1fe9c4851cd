"""The demo models' shapes and a plain PyTorch forward pass of their architectures, phi3 and qwen2 with an MTP layer.

This is the readable reference: exam.py runs it on the weights of a GGUF file, and train.py checks its own
hand-written gradients against it.
"""

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F


@dataclass
class Config:
    vocab_size: int = 2048
    d_model: int = 128
    n_layers: int = 6
    n_heads: int = 4
    n_kv_heads: int = 2
    d_ff: int = 384
    rotary_factor: float = 0.75
    rope_theta: float = 10000.0
    rms_eps: float = 1e-5
    context_length: int = 4096
    qkv_bias: bool = False
    tied_head: bool = True
    n_mtp_layers: int = 0

    @property
    def head_dim(self):
        return self.d_model // self.n_heads

    @property
    def rotary_dim(self):
        return int(self.head_dim * self.rotary_factor)

    @property
    def qkv_width(self):
        return (self.n_heads + 2 * self.n_kv_heads) * self.head_dim

    def shapes(self):
        """Name -> shape, in the order of the flat parameter vector. Linear weights are [out, in]."""
        shapes = {"token_embd": (self.vocab_size, self.d_model)}
        for n in range(self.n_layers + self.n_mtp_layers):
            if n >= self.n_layers:
                shapes[f"blk.{n}.input_proj"] = (self.d_model, 2 * self.d_model)
                for name in ("hidden_norm", "token_norm", "final_norm"):
                    shapes[f"blk.{n}.{name}"] = (self.d_model,)
            shapes[f"blk.{n}.attn_norm"] = (self.d_model,)
            shapes[f"blk.{n}.attn_qkv"] = (self.qkv_width, self.d_model)
            if self.qkv_bias:
                shapes[f"blk.{n}.attn_qkv_bias"] = (self.qkv_width,)
            shapes[f"blk.{n}.attn_output"] = (self.d_model, self.d_model)
            shapes[f"blk.{n}.ffn_norm"] = (self.d_model,)
            shapes[f"blk.{n}.ffn_up"] = (2 * self.d_ff, self.d_model)
            shapes[f"blk.{n}.ffn_down"] = (self.d_model, self.d_ff)
        shapes["output_norm"] = (self.d_model,)
        if not self.tied_head:
            shapes["output"] = (self.vocab_size, self.d_model)
        return shapes

    @property
    def head(self):
        return "token_embd" if self.tied_head else "output"

    def to_dict(self):
        return asdict(self)


def rope_tables(config, length):
    """cos and sin [length, rotary_dim/2]. Short LongRoPE factors of 1 and attention factor 1: plain RoPE."""
    exponent = torch.arange(0, config.rotary_dim, 2, dtype=torch.float64) / config.rotary_dim
    angle = torch.outer(torch.arange(length, dtype=torch.float64), config.rope_theta ** -exponent)
    return angle.cos().float(), angle.sin().float()


def rms_norm(x, weight, eps):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def rotate(x, cos, sin):
    """x [.., t, heads, head_dim]: rotate-half inside the first 2*half dims, the rest passes through."""
    half = cos.shape[1]
    cos, sin = cos[:, None, :], sin[:, None, :]
    lo, hi, rest = x[..., :half], x[..., half:2 * half], x[..., 2 * half:]
    return torch.cat([lo * cos - hi * sin, hi * cos + lo * sin, rest], -1)


def layer(weights, config, n, x, cache=None):
    """Block `n` over x [b, t, d_model]. `cache` is None or a list with one entry per block, None or (keys, values)."""
    past = cache[n][0].shape[1] if cache and cache[n] else 0
    b, t, _ = x.shape
    cos, sin = (table[past:] for table in rope_tables(config, past + t))
    mask = torch.full((t, past + t), float("-inf")).triu(past + 1)
    d, p = config.head_dim, f"blk.{n}."
    qkv = F.linear(rms_norm(x, weights[p + "attn_norm"], config.rms_eps), weights[p + "attn_qkv"],
                   weights.get(p + "attn_qkv_bias"))
    q, k, v = qkv.view(b, t, -1, d).split([config.n_heads, config.n_kv_heads, config.n_kv_heads], 2)
    q, k = rotate(q, cos, sin), rotate(k, cos, sin)
    if cache is not None:
        if past:
            k, v = torch.cat([cache[n][0], k], 1), torch.cat([cache[n][1], v], 1)
        cache[n] = (k, v)
    group = config.n_heads // config.n_kv_heads
    k, v = k.repeat_interleave(group, 2), v.repeat_interleave(group, 2)
    scores = torch.einsum("bthd,bshd->bhts", q, k) * d ** -0.5 + mask
    out = torch.einsum("bhts,bshd->bthd", scores.softmax(-1), v).reshape(b, t, -1)
    x = x + F.linear(out, weights[p + "attn_output"])
    gate, up = F.linear(rms_norm(x, weights[p + "ffn_norm"], config.rms_eps), weights[p + "ffn_up"]).chunk(2, -1)
    return x + F.linear(F.silu(gate) * up, weights[p + "ffn_down"])


def hidden(weights, config, ids, cache=None):
    """What the last block hands to the final norm [b, t, d_model], of ids [b, t]. `cache`, from empty_cache(), holds
    earlier keys and values for token-by-token decoding."""
    x = weights["token_embd"][ids]
    for n in range(config.n_layers):
        x = layer(weights, config, n, x, cache)
    return x


def empty_cache(config):
    return [None] * (config.n_layers + config.n_mtp_layers)


def logits(weights, config, x):
    return F.linear(rms_norm(x, weights["output_norm"], config.rms_eps), weights[config.head])


def forward(weights, config, ids, cache=None):
    """Logits [b, t, vocab_size] of ids [b, t]."""
    return logits(weights, config, hidden(weights, config, ids, cache))


def mtp_forward(weights, config, before, ids, cache=None):
    """The MTP layer's logits [b, t, vocab_size] after ids [b, t], given the hidden states `before` [b, t, d_model] of the
    positions before them; the first token of a sequence has none, which is zeros."""
    p = f"blk.{config.n_layers}."
    g = rms_norm(before, weights[p + "hidden_norm"], config.rms_eps)
    e = rms_norm(weights["token_embd"][ids], weights[p + "token_norm"], config.rms_eps)
    y = layer(weights, config, config.n_layers, F.linear(torch.cat([g, e], -1), weights[p + "input_proj"]), cache)
    return F.linear(rms_norm(y, weights[p + "final_norm"], config.rms_eps), weights[config.head])


def shifted(x):
    """Hidden states x [b, t, d_model] as the MTP layer takes them: those of the positions before."""
    return F.pad(x, (0, 0, 1, 0))[:, :-1]


@torch.no_grad()
def answer(weights, config, prompt, stop, limit=80):
    """Greedy continuation of `prompt` (ids) up to a token of `stop`, which is not part of the result."""
    cache, ids, out = empty_cache(config), torch.tensor([prompt]), []
    while len(out) < limit:
        token = int(forward(weights, config, ids, cache)[0, -1].argmax())
        if token in stop:
            break
        out.append(token)
        ids = torch.tensor([[token]])
    return out
