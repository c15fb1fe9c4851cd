"""Q4_0, Q8_0 and their inverses, as in the GGUF format: blocks of 32 along a row, one f16 scale each."""

import numpy as np
import torch

BLOCK = 32
# Candidate scales around the naive one (largest magnitude maps to -8), for the search of least squared error.
_FACTORS = [1.0, 0.94, 1.06, 0.88, 1.13, 0.82]


def is_quantised(name):
    """The linear weights; norms and biases stay F32, the embedding and the head Q8_0."""
    return name.endswith(("attn_qkv", "attn_output", "ffn_up", "ffn_down", "input_proj"))


def q4_0(weight):
    """Best scale per block and the codes: (scale [n,1] rounded to f16, codes [n,32] in 0..15)."""
    blocks = weight.reshape(-1, BLOCK)
    extreme = blocks.gather(1, blocks.abs().argmax(1, keepdim=True))
    best_error = best_scale = best_codes = None
    for factor in _FACTORS:
        scale = (extreme / -8 * factor).half().float()
        inverse = torch.where(scale == 0, torch.zeros_like(scale), 1 / scale)
        codes = (blocks * inverse).round().clamp(-8, 7)
        # With the codes fixed the least-squares scale is known in closed form; take it, then price the pair.
        power = (codes * codes).sum(1, keepdim=True)
        scale = torch.where(power == 0, scale, (blocks * codes).sum(1, keepdim=True) / power.clamp(min=1)).half().float()
        error = (blocks - codes * scale).pow(2).sum(1, keepdim=True)
        if best_error is None:
            best_error, best_scale, best_codes = error, scale, codes
        else:
            better = error < best_error
            best_error = torch.where(better, error, best_error)
            best_scale = torch.where(better, scale, best_scale)
            best_codes = torch.where(better, codes, best_codes)
    return best_scale, best_codes + 8


def fake_q4_0(weight):
    """The weight as the int4 file will hold it."""
    scale, codes = q4_0(weight)
    return ((codes - 8) * scale).reshape(weight.shape)


def pack_q4_0(weight):
    scale, codes = q4_0(weight)
    codes = codes.numpy().astype(np.uint8)
    packed = codes[:, :16] | (codes[:, 16:] << 4)
    return np.concatenate([scale.numpy().astype("<f2").view(np.uint8), packed], 1).tobytes()


def pack_q8_0(weight):
    blocks = weight.reshape(-1, BLOCK).numpy()
    scale = (np.abs(blocks).max(1, keepdims=True) / 127).astype("<f2")
    inverse = np.divide(1, scale.astype(np.float32), out=np.zeros(scale.shape, np.float32), where=scale != 0)
    codes = np.clip(np.rint(blocks * inverse), -127, 127).astype(np.int8)
    return np.concatenate([scale.view(np.uint8), codes.view(np.uint8)], 1).tobytes()


def unpack_q4_0(data, shape):
    blocks = np.frombuffer(data, np.uint8).reshape(-1, 18)
    scale = blocks[:, :2].copy().view("<f2").astype(np.float32)
    codes = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], 1).astype(np.float32) - 8
    return (codes * scale).reshape(shape)


def unpack_q8_0(data, shape):
    blocks = np.frombuffer(data, np.uint8).reshape(-1, 34)
    scale = blocks[:, :2].copy().view("<f2").astype(np.float32)
    return (blocks[:, 2:].copy().view(np.int8).astype(np.float32) * scale).reshape(shape)
