"""A small GGUF v3 writer and reader: what export.py and exam.py need, written from the format's description."""

import struct

import numpy as np

ALIGNMENT = 32
U32, F32, BOOL, STRING, ARRAY, I32 = 4, 6, 7, 8, 9, 5
TENSOR_F32, TENSOR_F16, TENSOR_Q4_0, TENSOR_Q8_0 = 0, 1, 2, 8


def _string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(kind, value):
    if kind == STRING:
        return _string(value)
    if kind == ARRAY:
        element, values = value
        return struct.pack("<IQ", element, len(values)) + b"".join(_value(element, v) for v in values)
    return struct.pack({U32: "<I", I32: "<i", F32: "<f", BOOL: "<?"}[kind], value)


def write(path, metadata, tensors):
    """metadata: [(key, kind, value)]; tensors: [(name, PyTorch shape, tensor type, bytes)]."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    for key, kind, value in metadata:
        head += _string(key) + struct.pack("<I", kind) + _value(kind, value)
    offset, body = 0, b""
    for name, shape, kind, data in tensors:
        # GGUF names the fastest axis first.
        dims = shape[::-1]
        head += _string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)
        padded = data + bytes(-len(data) % ALIGNMENT)
        body += padded
        offset += len(padded)
    with open(path, "wb") as file:
        file.write(head + bytes(-len(head) % ALIGNMENT) + body)


class Reader:
    """metadata: key -> value; tensors: name -> (PyTorch shape, tensor type, bytes). Trusts its input."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.data = file.read()
        self.at = 0
        assert self._take(4) == b"GGUF"
        version, n_tensors, n_metadata = self._unpack("<IQQ")
        assert version == 3
        self.metadata = {}
        for _ in range(n_metadata):
            key = self._string()
            self.metadata[key] = self._read(self._unpack("<I")[0])
        described = []
        for _ in range(n_tensors):
            name = self._string()
            (n_dims,) = self._unpack("<I")
            dims = self._unpack(f"<{n_dims}Q")
            described.append((name, dims[::-1], *self._unpack("<IQ")))
        start = self.at + -self.at % ALIGNMENT
        self.tensors = {}
        for name, shape, kind, offset in described:
            count = int(np.prod(shape))
            size = {TENSOR_F32: 4 * count, TENSOR_F16: 2 * count, TENSOR_Q4_0: count // 32 * 18,
                    TENSOR_Q8_0: count // 32 * 34}[kind]
            self.tensors[name] = (shape, kind, self.data[start + offset:start + offset + size])

    def _take(self, n):
        self.at += n
        return self.data[self.at - n:self.at]

    def _unpack(self, form):
        return struct.unpack(form, self._take(struct.calcsize(form)))

    def _string(self):
        return self._take(self._unpack("<Q")[0]).decode()

    def _read(self, kind):
        if kind == STRING:
            return self._string()
        if kind == ARRAY:
            element, count = self._unpack("<IQ")
            return [self._read(element) for _ in range(count)]
        return self._unpack({U32: "<I", I32: "<i", F32: "<f", BOOL: "<?"}[kind])[0]
