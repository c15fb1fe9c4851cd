#!/usr/bin/env python3
"""Trains the demo models on the CPU: `train.py --run DIR` starts or resumes the first one, `--mtp CHECKPOINT` with it the
second one, `train.py --check` verifies gradients.

Built around what a small model on a busy machine needs:
- one single-threaded process per core. The processes share parameters and gradients and take micro-batches from a
  common counter, so that a core lost to another program costs its share and no more; threads inside one matrix
  product would wait for the slowest at every call. Which conversations are in a step is fixed by the seed; only the
  order in which gradients are summed is not, so two runs agree in all but the last bits.
- hand-written forward and backward passes over fused kernels (kernels.c).
- conversations sorted by length and padded to micro-batches: every conversation is its own row, so that no attention
  mask is needed beyond the causal one, and little is padding.
- loss on the assistant's answers only, and logits computed only there.
- Muon (orthogonalised momentum) for the matrices, Adam for the embedding and the norms.
- a learning rate that falls linearly to zero at the end, which is worth more than many steps at a constant one.
- in the last part, quantisation-aware training: the linear weights are rounded to Q4_0 in every forward pass and the
  gradient goes straight through, so that the int4 file answers like the F16 one.
"""

import argparse
import ctypes
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np
import torch

import generate
import model
import mtp
import quantise
from tokenizer import Tokenizer

HERE = os.path.dirname(os.path.abspath(__file__))


def load_kernels():
    source = os.path.join(HERE, "kernels.c")
    folder = tempfile.mkdtemp(prefix="tandem-demo-")
    library = os.path.join(folder, "kernels.so")
    subprocess.check_call(["cc", "-O3", "-march=native", "-ffast-math", "-shared", "-fPIC", "-o", library, source, "-lm"])
    kernels = ctypes.CDLL(library)
    # Debian's alternative: the same OpenBLAS that torch is linked against.
    blas = ctypes.CDLL("libblas.so.3")
    kernels.kernels_init(ctypes.cast(blas.cblas_sgemm, ctypes.c_void_p))
    kernels.cross_entropy.restype = ctypes.c_double
    return kernels


def ptr(tensor):
    assert tensor.is_contiguous()
    return ctypes.c_void_p(tensor.data_ptr())


class Net:
    """Forward and backward of one micro-batch; gradients are added to `grads`."""

    def __init__(self, config, kernels):
        self.config, self.kernels = config, kernels
        self.cos, self.sin = model.rope_tables(config, config.context_length)
        self.cos, self.sin = self.cos.contiguous(), self.sin.contiguous()

    def norm(self, x, weight):
        y, inv = torch.empty_like(x), torch.empty(x.shape[0])
        self.kernels.rmsnorm_forward(ptr(x), ptr(weight), ptr(y), ptr(inv), x.shape[0], x.shape[1],
                                     ctypes.c_float(self.config.rms_eps))
        return y, inv

    def norm_backward(self, dy, x, weight, inv, dx, dweight):
        self.kernels.rmsnorm_backward(ptr(dy), ptr(x), ptr(weight), ptr(inv), ptr(dx), ptr(dweight), *x.shape)

    def layer(self, weights, n, shape, x0):
        """Block `n` over rows x0 [b*t, d_model]; returns the rows after it and what layer_backward needs."""
        c, k, p = self.config, self.kernels, f"blk.{n}."
        b, t = shape[:2]
        a, inv0 = self.norm(x0, weights[p + "attn_norm"])
        if c.qkv_bias:
            qkv = torch.addmm(weights[p + "attn_qkv_bias"], a, weights[p + "attn_qkv"].t())
        else:
            qkv = a @ weights[p + "attn_qkv"].t()
        probs, out = torch.empty(b, c.n_heads, t, t), torch.empty(b * t, c.d_model)
        k.attention_forward(ptr(qkv), ptr(self.cos), ptr(self.sin), ptr(probs), ptr(out), *shape)
        x1 = torch.addmm(x0, out, weights[p + "attn_output"].t())
        m, inv1 = self.norm(x1, weights[p + "ffn_norm"])
        gate_up = m @ weights[p + "ffn_up"].t()
        h = torch.empty(b * t, c.d_ff)
        k.swiglu_forward(ptr(gate_up), ptr(h), b * t, c.d_ff)
        return torch.addmm(x1, h, weights[p + "ffn_down"].t()), (x0, a, inv0, qkv, probs, out, x1, m, inv1, gate_up, h)

    def layer_backward(self, weights, grads, n, shape, kept, dx):
        """dx, the gradient of what layer() returned, becomes that of its input."""
        c, k, p = self.config, self.kernels, f"blk.{n}."
        b, t = shape[:2]
        x0, a, inv0, qkv, probs, out, x1, m, inv1, gate_up, h = kept
        grads[p + "ffn_down"].addmm_(dx.t(), h)
        dh = dx @ weights[p + "ffn_down"]
        dgate_up = torch.empty_like(gate_up)
        k.swiglu_backward(ptr(dh), ptr(gate_up), ptr(dgate_up), b * t, c.d_ff)
        grads[p + "ffn_up"].addmm_(dgate_up.t(), m)
        self.norm_backward(dgate_up @ weights[p + "ffn_up"], x1, weights[p + "ffn_norm"], inv1, dx,
                           grads[p + "ffn_norm"])
        grads[p + "attn_output"].addmm_(dx.t(), out)
        dout = dx @ weights[p + "attn_output"]
        dqkv, scratch = torch.empty_like(qkv), torch.empty(64 * t)
        k.attention_backward(ptr(dout), ptr(out), ptr(qkv), ptr(self.cos), ptr(self.sin), ptr(probs), ptr(dqkv),
                             ptr(scratch), *shape)
        grads[p + "attn_qkv"].addmm_(dqkv.t(), a)
        if c.qkv_bias:
            grads[p + "attn_qkv_bias"].add_(dqkv.sum(0))
        self.norm_backward(dqkv @ weights[p + "attn_qkv"], x0, weights[p + "attn_norm"], inv0, dx,
                           grads[p + "attn_norm"])

    def head(self, weights, grads, norm, x, rows, targets, train_head=True):
        """Cross entropy of the rows `rows` of x. Returns (loss, correct, gradient of x)."""
        xs = x[rows]
        f, inv = self.norm(xs, weights[norm])
        logits = f @ weights[self.config.head].t()
        correct = ctypes.c_int64(0)
        loss = self.kernels.cross_entropy(ptr(logits), ptr(targets), logits.shape[0], logits.shape[1],
                                          ctypes.byref(correct))
        if train_head:
            grads[self.config.head].addmm_(logits.t(), f)
        dxs, dx = torch.zeros_like(xs), torch.zeros_like(x)
        self.norm_backward(logits @ weights[self.config.head], xs, weights[norm], inv, dxs, grads[norm])
        dx[rows] = dxs
        return loss, correct.value, dx

    def shape(self, ids):
        c = self.config
        return (*ids.shape, c.n_heads, c.n_kv_heads, c.head_dim, c.rotary_dim // 2)

    def step(self, weights, grads, ids, rows, targets):
        """ids [b,t]; rows: flat positions whose next token counts; targets: those tokens. Returns (loss, correct)."""
        shape, flat = self.shape(ids), ids.reshape(-1)
        x = weights["token_embd"][flat]
        kept = []
        for n in range(self.config.n_layers):
            x, keep = self.layer(weights, n, shape, x)
            kept.append(keep)
        loss, correct, dx = self.head(weights, grads, "output_norm", x, rows, targets)
        for n in reversed(range(self.config.n_layers)):
            self.layer_backward(weights, grads, n, shape, kept.pop(), dx)
        grads["token_embd"].index_add_(0, flat, dx)
        return loss, correct

    def mtp_step(self, weights, grads, ids, rows):
        """Teaches the MTP layer to say at a position what the frozen model says there, from the hidden state of the
        position before and this position's token; where both positions are in `rows`. Returns (loss, correct, number)."""
        c, (b, t), shape, flat = self.config, ids.shape, self.shape(ids), ids.reshape(-1)
        x = embedded = weights["token_embd"][flat]
        for n in range(c.n_layers):
            x, _ = self.layer(weights, n, shape, x)
        counts = torch.zeros(b * t + 1, dtype=torch.bool)
        counts[rows] = True
        rows = rows[counts[rows - 1]]
        f, _ = self.norm(x[rows], weights["output_norm"])
        targets = (f @ weights[c.head].t()).argmax(1)

        p = f"blk.{c.n_layers}."
        before = model.shifted(x.view(b, t, -1)).reshape(b * t, -1)
        g, inv_g = self.norm(before, weights[p + "hidden_norm"])
        e, inv_e = self.norm(embedded, weights[p + "token_norm"])
        ge = torch.cat([g, e], 1)
        y, kept = self.layer(weights, c.n_layers, shape, ge @ weights[p + "input_proj"].t())
        loss, correct, dy = self.head(weights, grads, p + "final_norm", y, rows, targets, train_head=False)
        self.layer_backward(weights, grads, c.n_layers, shape, kept, dy)
        grads[p + "input_proj"].addmm_(dy.t(), ge)
        dg, de = (half.contiguous() for half in (dy @ weights[p + "input_proj"]).chunk(2, 1))
        unused = torch.zeros_like(x)  # the frozen model's gradients
        self.norm_backward(dg, before, weights[p + "hidden_norm"], inv_g, unused, grads[p + "hidden_norm"])
        self.norm_backward(de, embedded, weights[p + "token_norm"], inv_e, unused, grads[p + "token_norm"])
        return loss, correct, len(rows)


def views(flat, config):
    result, at = {}, 0
    for name, shape in config.shapes().items():
        size = int(np.prod(shape))
        result[name] = flat[at:at + size].view(shape)
        at += size
    assert at == flat.numel()
    return result


def initialise(weights, config, seed):
    generator = torch.Generator().manual_seed(seed)
    for name, weight in weights.items():
        if weight.dim() == 1:
            weight.fill_(0.0 if name.endswith("bias") else 1.0)
        elif name in ("token_embd", "output"):
            weight.normal_(0, 0.05, generator=generator)
        else:
            weight.normal_(0, weight.shape[1] ** -0.5, generator=generator)
            if name.endswith(("attn_output", "ffn_down")):
                weight.mul_((2 * config.n_layers) ** -0.5)


def parts(name, config):
    """Row ranges of a matrix that are matrices of their own and are orthogonalised apart."""
    if name.endswith("attn_qkv"):
        q, kv = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
        return [(0, q), (q, q + kv), (q + kv, q + 2 * kv)]
    if name.endswith("ffn_up"):
        return [(0, config.d_ff), (config.d_ff, 2 * config.d_ff)]
    return [(0, None)]


def orthogonalise(g):
    """Newton-Schulz iteration of Muon (Jordan et al. 2024): pushes all singular values of g towards 1."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g / (g.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.t()
    for _ in range(5):
        s = x @ x.t()
        x = a * x + (b * s + c * s @ s) @ x
    return x.t() if tall else x


def tokenise(tokenizer, messages):
    """ids and, for every position, whether the token after it belongs to an answer (its <|end|> included)."""
    ids, counts = [], []
    for message in messages:
        body = tokenizer.encode(message["content"])
        answer = message["role"] == "assistant"
        ids += [tokenizer.ids[f"<|{message['role']}|>"], *body, tokenizer.ids["<|end|>"]]
        counts += [answer] * (len(body) + 1) + [False]
    return ids, counts


def micro_batches(tokenizer, args, step):
    """The micro-batches of one step: (ids [b,t], rows, targets), the largest first."""
    (_, count, max_products, drill, sloppy, level), first = stage(step)
    conversations = []
    for index in range(first, first + count):
        conversations.append(tokenise(tokenizer, generate.training_conversation(
            args.seed, index, max_products, drill, sloppy, level)))
    conversations.sort(key=lambda c: -len(c[0]))
    batches, at = [], 0
    while at < len(conversations):
        t = len(conversations[at][0])
        group = conversations[at:at + max(1, args.micro_tokens // t)]
        at += len(group)
        ids = torch.zeros(len(group), t, dtype=torch.int64)
        rows, targets = [], []
        for r, (tokens, counts) in enumerate(group):
            ids[r, :len(tokens)] = torch.tensor(tokens)
            for i, counted in enumerate(counts):
                if counted:
                    rows.append(r * t + i)
                    targets.append(tokens[i + 1])
        batches.append((ids, torch.tensor(rows), torch.tensor(targets)))
    return batches, sum(len(c[0]) for c in conversations)


# The course of training, as it was steered by hand while it ran:
# first step, conversations in a step, most products in a catalogue, share of copying drills, share of questions in
# small letters, level (see generate.World).
STAGES = [
    (0, 32, 1, 0.0, 0.0, 0),
    (294, 16, 1, 0.0, 0.0, 0),    # smaller steps, because the machine turned out to be shared
    (400, 16, 2, 0.0, 0.0, 0),
    (637, 16, 1, 0.3, 0.0, 0),    # numbers were not copied yet: back to one product, drills, less noise
    (1000, 16, 2, 0.15, 0.0, 0),
    (1300, 16, 3, 0.1, 0.0, 0),
    (1600, 16, 4, 0.05, 0.0, 0),
    (1686, 16, 4, 0.08, 0.05, 1),  # looking up works: now phrasings, unknown names, small letters
    (2084, 16, 4, 0.08, 0.05, 2),  # unknown countries were misspelt, and "no" was said too rarely
    (3084, 16, 4, 0.03, 0.05, 3),  # products were mixed up, everything else was good: mostly look-ups
    (3443, 16, 4, 0.03, 0.05, 4),  # telling them apart was learnt within 250 steps; lists and orders had suffered
    (3831, 16, 4, 0.03, 0.05, 5),  # the last misses: unknown countries, and facts that are not listed
    (4250, 16, 4, 0.03, 0.05, 6),  # a last round for the destinations: listed ones were refused and the reverse
]

# Learning rate's factor at these steps, linear between them.
RATES = [(0, 0.0), (60, 1.0), (636, 1.0), (637, 0.4), (2100, 0.4), (3084, 0.249), (3085, 0.4), (3443, 0.4), (4250, 0.0),
         (4251, 0.15), (4290, 0.15), (4450, 0.0),
         # The second model, from the first: the body gets used to its new form, then the MTP layer learns from it.
         (4470, 0.15), (4750, 0.0), (4751, 0.0), (4780, 1.0), (5300, 0.6), (5600, 0.0)]


def stage(step):
    """The stage of this step, and the number of the step's first conversation."""
    first = 0
    for this, following in zip(STAGES, STAGES[1:] + [(1 << 30,)]):
        if step < following[0]:
            return this, first + (step - this[0]) * this[1]
        first += (following[0] - this[0]) * this[1]


def learning_rate(step):
    return float(np.interp(step + 1, *zip(*RATES)))


class Shared:
    """What the processes share. Everything in `state` goes into a checkpoint."""

    def __init__(self, config, workers):
        size = sum(int(np.prod(s)) for s in config.shapes().values())
        self.state = {name: torch.zeros(size).share_memory_() for name in ("weights", "first", "second", "average")}
        self.used = torch.zeros(size).share_memory_()  # weights as the forward pass sees them (quantised or not)
        self.grads = [torch.zeros(size).share_memory_() for _ in range(workers)]
        self.figures = torch.zeros(workers, 4, dtype=torch.float64).share_memory_()
        self.next_batch = multiprocessing.Value("i", 0)
        self.barrier = multiprocessing.Barrier(workers)


def update(names, shared, config, args, step):
    """Applies the step's summed gradients to the tensors in `names`."""
    weights, first, second, average, used = (views(t, config) for t in (
        shared.state["weights"], shared.state["first"], shared.state["second"], shared.state["average"], shared.used))
    grads = [views(g, config) for g in shared.grads]
    scale = 1.0 / max(1.0, float(shared.figures[:, 1].sum()))
    lr = learning_rate(step)
    for name in names:
        g = grads[0][name]
        for other in grads[1:]:
            g = g + other[name]
        g = g * scale
        w = weights[name]
        if w.dim() == 1 or name in ("token_embd", "output"):
            rate = lr * args.adam_lr
            first[name].mul_(0.9).add_(g, alpha=0.1)
            second[name].mul_(0.98).addcmul_(g, g, value=0.02)
            m, v = first[name] / (1 - 0.9 ** (step + 1)), second[name] / (1 - 0.98 ** (step + 1))
            w.addcdiv_(m, v.sqrt_().add_(1e-9), value=-rate)
        else:
            rate = lr * args.muon_lr
            first[name].mul_(0.95).add_(g)
            direction = g.add(first[name], alpha=0.95)
            w.mul_(1 - rate * args.weight_decay)
            for start, stop in parts(name, config):
                block = direction[start:stop]
                w[start:stop].add_(orthogonalise(block), alpha=-rate * max(1.0, block.shape[0] / block.shape[1]) ** 0.5)
        average[name].lerp_(w, 1 - args.average if step > 200 else 1.0)
        if step + 1 >= args.quantise_from and quantise.is_quantised(name):
            used[name].copy_(quantise.fake_q4_0(w))
        else:
            used[name].copy_(w)
        for other in grads:
            other[name].zero_()


def save(path, shared, config, args, step, tokens):
    torch.save({"state": {k: v.clone() for k, v in shared.state.items()}, "config": config.to_dict(), "step": step,
                "tokens": tokens, "args": vars(args)}, path + ".tmp")
    os.replace(path + ".tmp", path)


def worker(rank, shared, config, args, kernels, start_step, tokens):
    torch.set_num_threads(1)
    if rank:
        # Linux shares the processor out between sessions first (autogroup): in one session with its siblings a worker
        # would only take time from them.
        os.setsid()
    net = Net(config, kernels)
    tokenizer = Tokenizer.load(os.path.join(HERE, "tokenizer.json"))
    used, grads = views(shared.used, config), views(shared.grads[rank], config)
    # Whole tensors, spread so that both processes have about the same number of parameters to update.
    loads, mine = [0] * args.workers, []
    for name, weight in sorted(used.items(), key=lambda item: -item[1].numel()):
        lightest = loads.index(min(loads))
        loads[lightest] += weight.numel() * (0.3 if name in ("token_embd", "output") else 1)
        if lightest == rank:
            mine.append(name)
    began = last_save = time.time()
    seen, window = 0, []
    for step in range(start_step, args.steps):
        batches, step_tokens = micro_batches(tokenizer, args, step)
        loss = correct = count = 0
        while True:
            with shared.next_batch.get_lock():
                index = shared.next_batch.value
                shared.next_batch.value += 1
            if index >= len(batches):
                break
            ids, rows, targets = batches[index]
            if step < args.mtp_from:
                l, c, n = *net.step(used, grads, ids, rows, targets), len(targets)
            else:
                l, c, n = net.mtp_step(used, grads, ids, rows)
            loss, correct, count = loss + l, correct + c, count + n
        shared.figures[rank] = torch.tensor([loss, count, correct, 0.0])
        shared.barrier.wait()
        in_mtp = f"blk.{config.n_layers}."
        update([name for name in mine if name.startswith(in_mtp) == (step >= args.mtp_from)], shared, config, args, step)
        if rank == 0:
            shared.next_batch.value = 0
            total = shared.figures.sum(0).tolist()
        shared.barrier.wait()
        tokens += step_tokens
        if rank:
            continue
        seen += step_tokens
        window.append((total[0] / total[1], total[2] / total[1]))
        if (step + 1) % args.log_every == 0:
            print(json.dumps({"step": step + 1, "tokens": tokens, "loss": round(np.mean([w[0] for w in window]), 4),
                              "token_accuracy": round(np.mean([w[1] for w in window]), 4),
                              "tokens_per_s": int(seen / (time.time() - began)),
                              "lr": round(learning_rate(step), 3)}), flush=True)
            window, seen, began = [], 0, time.time()
        if args.run and (time.time() - last_save > args.save_every or step + 1 == args.steps):
            save(os.path.join(args.run, "checkpoint.pt"), shared, config, args, step + 1, tokens)
            last_save = time.time()


def check(kernels):
    """Compares losses and every gradient with PyTorch's automatic differentiation of model.py."""
    torch.manual_seed(0)
    for config in (model.Config(vocab_size=64, n_layers=2),
                   model.Config(vocab_size=64, n_layers=2, rotary_factor=1.0, qkv_bias=True, tied_head=False,
                                n_mtp_layers=1)):
        size = sum(int(np.prod(s)) for s in config.shapes().values())
        weights = views(torch.zeros(size), config)
        initialise(weights, config, 1)
        for name, weight in weights.items():
            if weight.dim() == 1:
                weight.add_(torch.randn(weight.shape), alpha=0.2)
        grads = views(torch.zeros(size), config)
        b, t = 3, 150
        ids = torch.randint(0, config.vocab_size, (b, t))
        net = Net(config, kernels)
        rows, targets = torch.arange(5, b * t, 3), torch.randint(0, config.vocab_size, (b * t,))[5::3].contiguous()
        loss, _ = net.step(weights, grads, ids, rows, targets)
        leaves = {name: w.clone().requires_grad_() for name, w in weights.items()}
        logits = model.forward(leaves, config, ids).reshape(b * t, -1)[rows]
        expected = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
        compare("model", loss, expected, grads, leaves, lambda name: not name.startswith(f"blk.{config.n_layers}."))
        if not config.n_mtp_layers:
            continue
        for grad in grads.values():
            grad.zero_()
        rows = torch.cat([torch.arange(s * t + 20, s * t + 90) for s in range(b)])
        loss, _, count = net.mtp_step(weights, grads, ids, rows)
        assert count == b * 69
        leaves = {name: w.clone().requires_grad_() for name, w in weights.items()}
        with torch.no_grad():
            x = model.hidden(weights, config, ids)
            targets = model.logits(weights, config, x).argmax(-1)[:, 21:90]
        logits = model.mtp_forward(leaves, config, model.shifted(x), ids)[:, 21:90]
        expected = torch.nn.functional.cross_entropy(logits.reshape(-1, 64), targets.reshape(-1), reduction="sum")
        compare("MTP layer", loss, expected, grads, leaves, lambda name: name.startswith(f"blk.{config.n_layers}."))


def compare(what, loss, expected, grads, leaves, selected):
    expected.backward()
    worst = max(float((grads[n] - leaves[n].grad).norm() / leaves[n].grad.norm()) for n in filter(selected, grads))
    print(f"{what}: loss {loss:.5f}, PyTorch {float(expected):.5f}; worst relative gradient error {worst:.2e}")
    assert abs(loss - float(expected)) < 1e-4 * loss and worst < 1e-4


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", metavar="DIR", help="folder of the checkpoint; resumes from the one found there")
    parser.add_argument("--check", action="store_true", help="verify the gradients and stop")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=4450)
    parser.add_argument("--mtp", metavar="CHECKPOINT",
                        help="trains the second model, of MiMo's architecture, from the first one's last checkpoint")
    parser.add_argument("--mtp-from", type=int, default=4750, help="first step that trains the MTP layer alone")
    parser.add_argument("--quantise-from", type=int, default=3900, help="first step with Q4_0 weights")
    parser.add_argument("--micro-tokens", type=int, default=1024)
    parser.add_argument("--muon-lr", type=float, default=0.02)
    parser.add_argument("--adam-lr", type=float, default=0.004)
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--average", type=float, default=0.98, help="decay of the running average of the weights")
    parser.add_argument("--log-every", type=int, default=20)
    parser.add_argument("--save-every", type=float, default=100, help="seconds between checkpoints")
    args = parser.parse_args()
    kernels = load_kernels()
    if args.check:
        return check(kernels)

    config = mtp.CONFIG if args.mtp else model.Config()
    shared = Shared(config, args.workers)
    weights = views(shared.state["weights"], config)
    step = tokens = 0
    path = args.run and os.path.join(args.run, "checkpoint.pt")
    if path and os.path.exists(path):
        saved = torch.load(path)
        assert saved["config"] == config.to_dict(), "the checkpoint is of another shape"
        for name, value in saved["state"].items():
            shared.state[name].copy_(value)
        step, tokens = saved["step"], saved["tokens"]
    else:
        if args.run:
            os.makedirs(args.run, exist_ok=True)
        initialise(weights, config, args.seed)
        if args.mtp:
            step, tokens = mtp.warm_start(torch.load(args.mtp), weights)
    used = views(shared.used, config)
    for name, weight in weights.items():
        used[name].copy_(quantise.fake_q4_0(weight) if step >= args.quantise_from and quantise.is_quantised(name)
                         else weight)
    print(json.dumps({"parameters": shared.used.numel(), "from_step": step, **vars(args)}), flush=True)
    # daemon: the others go when the first one ends or is interrupted.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    others = [multiprocessing.Process(target=worker, args=(rank, shared, config, args, kernels, step, tokens),
                                      daemon=True) for rank in range(1, args.workers)]
    for other in others:
        other.start()
    worker(0, shared, config, args, kernels, step, tokens)
    for other in others:
        other.join()


if __name__ == "__main__":
    main()
