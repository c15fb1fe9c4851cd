"""The demo model's shape and a plain PyTorch forward pass of the phi3 architecture.

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
        for n in range(self.n_layers):
            shapes[f"blk.{n}.attn_norm"] = (self.d_model,)
            shapes[f"blk.{n}.attn_qkv"] = (self.qkv_width, self.d_model)
            shapes[f"blk.{n}.attn_output"] = (self.d_model, self.d_model)
            shapes[f"blk.{n}.ffn_norm"] = (self.d_model,)
            shapes[f"blk.{n}.ffn_up"] = (2 * self.d_ff, self.d_model)
            shapes[f"blk.{n}.ffn_down"] = (self.d_model, self.d_ff)
        shapes["output_norm"] = (self.d_model,)
        return shapes

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


def forward(weights, config, ids, cache=None):
    """Logits [b, t, vocab_size] of ids [b, t]. `cache`, a list that the first call fills, holds earlier keys and
    values for token-by-token decoding."""
    past = cache[0][0].shape[1] if cache else 0
    b, t = ids.shape
    cos, sin = (table[past:] for table in rope_tables(config, past + t))
    mask = torch.full((t, past + t), float("-inf")).triu(past + 1)
    x = weights["token_embd"][ids]
    d = config.head_dim
    for n in range(config.n_layers):
        p = f"blk.{n}."
        qkv = F.linear(rms_norm(x, weights[p + "attn_norm"], config.rms_eps), weights[p + "attn_qkv"])
        q, k, v = qkv.view(b, t, -1, d).split([config.n_heads, config.n_kv_heads, config.n_kv_heads], 2)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if cache is not None:
            if past:
                k, v = torch.cat([cache[n][0], k], 1), torch.cat([cache[n][1], v], 1)
                cache[n] = (k, v)
            else:
                cache.append((k, v))
        group = config.n_heads // config.n_kv_heads
        k, v = k.repeat_interleave(group, 2), v.repeat_interleave(group, 2)
        scores = torch.einsum("bthd,bshd->bhts", q, k) * d ** -0.5 + mask
        out = torch.einsum("bhts,bshd->bthd", scores.softmax(-1), v).reshape(b, t, -1)
        x = x + F.linear(out, weights[p + "attn_output"])
        gate, up = F.linear(rms_norm(x, weights[p + "ffn_norm"], config.rms_eps), weights[p + "ffn_up"]).chunk(2, -1)
        x = x + F.linear(F.silu(gate) * up, weights[p + "ffn_down"])
    return F.linear(rms_norm(x, weights["output_norm"], config.rms_eps), weights["token_embd"])


@torch.no_grad()
def answer(weights, config, prompt, stop, limit=80):
    """Greedy continuation of `prompt` (ids) up to a token of `stop`, which is not part of the result."""
    cache, ids, out = [], torch.tensor([prompt]), []
    while len(out) < limit:
        token = int(forward(weights, config, ids, cache)[0, -1].argmax())
        if token in stop:
            break
        out.append(token)
        ids = torch.tensor([[token]])
    return out
