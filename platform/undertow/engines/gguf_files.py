"""GGUF files: metadata, and the shapes of the tensors, from the header alone.

The layout is that of https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3. Weights are
read elsewhere, by transformers (`training.conversion`).

The readers of package `gguf` and of transformers are not used here, because a plan must answer in about a
second: `gguf.GGUFReader` takes 2 to 9 s for a vocabulary of 49,152 tokens, importing the package half a
second more, and transformers' reader imports torch.
"""

import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

MAGIC, VERSIONS = b"GGUF", (2, 3)
ALIGNMENT = 32  # bytes, unless the metadata state another one
STRING, ARRAY = 8, 9
SCALARS: Mapping[int, str] = {  # struct's codes
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
# llama.cpp's names of the way of splitting a text before merging that is GPT-2's with single digits.
# transformers does not know them and uses GPT-2's; `training.conversion` adds the digits.
DIGIT_SPLITS = frozenset(("codeshell", "command-r", "exaone", "refact", "smollm", "starcoder"))
LONGEST_ARRAY = 2**28  # entries; a damaged length is reported instead of filling the memory
# Values and bytes per block of each type of tensor that package `gguf` can dequantise (a test compares them).
BLOCKS: Mapping[int, tuple[int, int]] = {
    0: (1, 4),  # float32
    1: (1, 2),  # float16
    30: (1, 2),  # bfloat16
    2: (32, 18),
    3: (32, 20),
    6: (32, 22),
    7: (32, 24),
    8: (32, 34),
    10: (256, 84),
    11: (256, 110),
    12: (256, 144),
    13: (256, 176),
    14: (256, 210),
    16: (256, 66),
    17: (256, 74),
    18: (256, 98),
    19: (256, 50),
    20: (32, 18),
    21: (256, 110),
    22: (256, 82),
    23: (256, 136),
    29: (256, 56),
    34: (256, 54),
    35: (256, 66),
    39: (32, 17),
    40: (64, 36),
}


@dataclass(frozen=True)
class GGUFHeader:
    """The header of a GGUF file.

    Attributes:
        metadata: values by key ("general.architecture"); arrays are lists.
        shapes: the shape of each tensor by its name in the file, in the order of PyTorch's dimensions.
    """

    metadata: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def architecture(self) -> str:
        """llama.cpp's name of the architecture; "" if the file has none."""
        return str(self.metadata.get("general.architecture", ""))

    @property
    def parameters(self) -> int:
        """The number of stored weights; tied ones count once."""
        return sum(map(math.prod, self.shapes.values()))


def read_header(path: Path) -> GGUFHeader:
    """The header of a local file. Raises ValueError if the file is damaged, and OSError if it is missing."""
    with path.open("rb") as file:
        return parse_header(file)


def parse_header(file: BinaryIO) -> GGUFHeader:
    """The header of a file that is open at its beginning; weights are not read.

    Raises ValueError for a file that is damaged, cut off, or of another format or version.
    """
    return _Parser(file).header()


def adds_bos(metadata: Mapping[str, Any]) -> bool:
    """Whether the tokenizer puts a token before every text; llama.cpp's default depends on the tokenizer."""
    default = metadata.get("tokenizer.ggml.model") == "llama"
    return bool(metadata.get("tokenizer.ggml.add_bos_token", default))


class _Parser:
    """Reads values in sequence and checks every length against the size of the file."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.size = file.seek(0, os.SEEK_END)
        file.seek(0)
        self.position = 0

    def header(self) -> GGUFHeader:
        if self.size < len(MAGIC) or self.read(len(MAGIC)) != MAGIC:
            raise ValueError("does not start with GGUF, so it is not a GGUF file")
        version = self.number("I")
        if version not in VERSIONS:
            raise ValueError(f"has version {version} of the format; versions 2 and 3 are supported")
        tensors, entries = self.number("Q"), self.number("Q")
        metadata = {}
        for _ in range(entries):
            name = self.text()
            metadata[name] = self.value(self.number("I"))
        shapes: dict[str, tuple[int, ...]] = {}
        last = 0  # the end of the data that any tensor needs, from the beginning of the data
        for _ in range(tensors):
            name = self.text()
            dimensions = [self.number("Q") for _ in range(self.number("I"))]
            kind, offset = self.number("I"), self.number("Q")
            if kind not in BLOCKS:
                raise ValueError(f"has the tensor {name!r} in quantisation type {kind}, which cannot be read")
            shapes[name] = tuple(reversed(dimensions))
            values, size = BLOCKS[kind]
            last = max(last, offset + math.prod(dimensions) // values * size)
        alignment = int(metadata.get("general.alignment", ALIGNMENT)) or ALIGNMENT
        end = -(-self.position // alignment) * alignment + last
        if end > self.size:
            raise ValueError(f"is cut off: {self.size:,} of {end:,} bytes")
        return GGUFHeader(metadata, shapes)

    def read(self, length: int) -> bytes:
        if length > self.size - self.position:
            raise ValueError("is cut off or damaged: its header does not end within the file")
        self.position += length
        return self.file.read(length)

    def number(self, code: str) -> int:
        return int(struct.unpack(f"<{code}", self.read(struct.calcsize(f"<{code}")))[0])

    def text(self) -> str:
        return self.read(self.number("Q")).decode("utf-8", errors="replace")

    def value(self, kind: int) -> Any:
        if kind == STRING:
            return self.text()
        if kind == ARRAY:
            inner, length = self.number("I"), self.number("Q")
            if length > LONGEST_ARRAY or inner == ARRAY:
                raise ValueError("is damaged: its metadata have a list that is too long or nested")
            if inner in SCALARS:
                code = f"<{length}{SCALARS[inner]}"
                return list(struct.unpack(code, self.read(struct.calcsize(code))))
            return [self.value(inner) for _ in range(length)]
        if kind not in SCALARS:
            raise ValueError(f"is damaged: metadata of the unknown type {kind}")
        code = f"<{SCALARS[kind]}"
        return struct.unpack(code, self.read(struct.calcsize(code)))[0]
