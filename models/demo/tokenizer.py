"""Byte-level BPE with the o200k pre-tokeniser, as the engine reads it from GGUF (pre-type `gpt-4o`).

Python's own `re` has no \\p{..} classes, so the pattern is put together from explicit character ranges taken from
`unicodedata`; that keeps the tools free of packages outside the standard library.
"""

import json
import re
import sys
import unicodedata
from functools import lru_cache


@lru_cache(maxsize=None)
def _ranges(categories):
    """The inside of a character class with all code points of these general categories."""
    parts, start = [], None
    for code in range(sys.maxunicode + 2):
        inside = code <= sys.maxunicode and unicodedata.category(chr(code)) in categories
        if inside and start is None:
            start = code
        elif not inside and start is not None:
            parts.append(f"\\U{start:08x}-\\U{code - 1:08x}")
            start = None
    return "".join(parts)


@lru_cache(maxsize=None)
def pattern():
    lu, lt, lm, lo, ll = (_ranges((c,)) for c in ("Lu", "Lt", "Lm", "Lo", "Ll"))
    mark = _ranges(("Mn", "Mc", "Me"))
    number = _ranges(("Nd", "Nl", "No"))
    letter = lu + lt + lm + lo + ll
    space = r"\u0009-\u000d\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
    upper, lower = lu + lt + lm + lo + mark, ll + lm + lo + mark
    suffix = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?"
    prefix = rf"[^\r\n{letter}{number}]?"
    return re.compile("|".join([
        rf"{prefix}[{upper}]*[{lower}]+{suffix}", rf"{prefix}[{upper}]+[{lower}]*{suffix}", rf"[{number}]{{1,3}}",
        rf" ?[^{space}{letter}{number}]+[\r\n/]*", rf"[{space}]*[\r\n]+", rf"[{space}]+(?![^{space}])", rf"[{space}]+",
    ]))


def byte_to_unicode():
    """GPT-2's printable stand-ins for the 256 bytes, in the order of their token ids."""
    direct = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {b: chr(b) for b in direct}
    for n, b in enumerate(b for b in range(256) if b not in table):
        table[b] = chr(256 + n)
    return table


class Tokenizer:
    """tokens: byte-unicode strings by id, the special tokens last; merges: pairs of such strings by rank."""

    def __init__(self, tokens, merges, special):
        self.tokens, self.merges, self.special = tokens, merges, special
        self.ids = {token: i for i, token in enumerate(tokens)}
        self.rank = {tuple(pair): i for i, pair in enumerate(merges)}
        self.to_unicode = byte_to_unicode()
        self.to_byte = {u: b for b, u in self.to_unicode.items()}
        self.split_special = re.compile("(" + "|".join(re.escape(t) for t in special) + ")")
        self.cache = {}

    @classmethod
    def load(cls, path):
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
        return cls(data["tokens"], [tuple(m) for m in data["merges"]], data["special"])

    def piece_ids(self, piece):
        ids = self.cache.get(piece)
        if ids is None:
            symbols = [self.to_unicode[b] for b in piece.encode()]
            while len(symbols) > 1:
                best = min(range(len(symbols) - 1),
                           key=lambda i: self.rank.get((symbols[i], symbols[i + 1]), 1 << 30))
                if (symbols[best], symbols[best + 1]) not in self.rank:
                    break
                symbols[best:best + 2] = [symbols[best] + symbols[best + 1]]
            ids = self.cache[piece] = [self.ids[s] for s in symbols]
        return ids

    def encode(self, text):
        """Ordinary text: nothing in it is read as a special token."""
        return [i for match in pattern().finditer(text) for i in self.piece_ids(match.group())]

    def encode_chat(self, messages, generation_prompt=True):
        """Message contents never yield special tokens; the markers around them do."""
        ids = []
        for message in messages:
            ids += [self.ids[f"<|{message['role']}|>"], *self.encode(message["content"]), self.ids["<|end|>"]]
        return ids + ([self.ids["<|assistant|>"]] if generation_prompt else [self.ids["<|endoftext|>"]])

    def decode(self, ids):
        data = bytearray()
        for i in ids:
            token = self.tokens[i]
            data += token.encode() if token in self.special else bytes(self.to_byte[c] for c in token)
        return data.decode("utf-8", "replace")
