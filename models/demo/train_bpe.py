#!/usr/bin/env python3
"""Trains the demo model's byte-level BPE on generated conversations and writes tokenizer.json.

Numbers are treated apart: the hundred two-digit pairs are the first merges, and no other merge touches a digit.
A number is thus a row of tokens that all occur often, which makes it easy to copy whatever its value; with merges
chosen by frequency a held-out price would fall into tokens that training has hardly seen.
"""

import argparse
import collections
import json

import generate
from tokenizer import byte_to_unicode, pattern


def count_pieces(seed, conversations):
    counts = collections.Counter()
    for index in range(conversations):
        # A stream of its own: the tokenizer must not depend on how long training runs.
        rng = generate.random.Random(f"bpe/{seed}/{index}")
        for message in generate.conversation(rng)[0]:
            counts.update(m.group() for m in pattern().finditer(message["content"]))
    return counts


def train(counts, n_merges):
    to_unicode = byte_to_unicode()
    merges = [(str(a), str(b)) for a in range(10) for b in range(10)]
    words = [([to_unicode[b] for b in piece.encode()], n) for piece, n in sorted(counts.items())
             if not any(c.isdigit() for c in piece)]
    where = collections.defaultdict(set)   # pair -> words that hold it
    total = collections.Counter()          # pair -> weighted count
    for w, (symbols, n) in enumerate(words):
        for pair in zip(symbols, symbols[1:]):
            total[pair] += n
            where[pair].add(w)
    while len(merges) < n_merges and total:
        # Ties go to the smaller pair, so that the result does not depend on hashing.
        pair = min(total, key=lambda p: (-total[p], p))
        merges.append(pair)
        for w in list(where[pair]):
            symbols, n = words[w]
            for old in zip(symbols, symbols[1:]):
                total[old] -= n
                where[old].discard(w)
            merged, i = [], 0
            while i < len(symbols):
                if i + 1 < len(symbols) and (symbols[i], symbols[i + 1]) == pair:
                    merged.append(symbols[i] + symbols[i + 1])
                    i += 2
                else:
                    merged.append(symbols[i])
                    i += 1
            words[w] = (merged, n)
            for new in zip(merged, merged[1:]):
                total[new] += n
                where[new].add(w)
        total = +total
    return merges


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--conversations", type=int, default=20000)
    parser.add_argument("--vocab-size", type=int, default=2048)
    parser.add_argument("--out", default="tokenizer.json")
    args = parser.parse_args()
    special = generate.SPECIAL_TOKENS
    merges = train(count_pieces(args.seed, args.conversations), args.vocab_size - 256 - len(special))
    tokens = list(byte_to_unicode().values()) + [a + b for a, b in merges] + special
    assert len(tokens) == len(set(tokens)) == args.vocab_size, (len(tokens), len(set(tokens)))
    with open(args.out, "w", encoding="utf-8") as out:
        json.dump({"tokens": tokens, "merges": merges, "special": special}, out, ensure_ascii=False, indent=0)


if __name__ == "__main__":
    main()
