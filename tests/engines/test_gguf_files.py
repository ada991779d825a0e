"""Reading the header of GGUF files, compared with package `gguf`."""

from pathlib import Path

import gguf

from tests.tiny_gguf import save_gguf
from undertow.engines.gguf_files import BLOCKS, read_header


def test_the_header_equals_what_package_gguf_reads(tmp_path: Path) -> None:
    file = save_gguf(tmp_path / "tiny.gguf", quantised=True, more__numbers=[1, 2, 3], more__flag=True)
    header, reader = read_header(file), gguf.GGUFReader(file)
    entries = {
        name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")
    }
    assert header.metadata == entries
    shapes = {tensor.name: tuple(map(int, reversed(tensor.shape))) for tensor in reader.tensors}
    assert header.shapes == shapes
    assert header.parameters == sum(int(tensor.n_elements) for tensor in reader.tensors)


def test_the_table_of_blocks_has_the_types_that_package_gguf_can_dequantise() -> None:
    plain = {gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16}
    readable = plain | set(gguf.quants._type_traits)
    assert {int(kind): gguf.GGML_QUANT_SIZES[kind] for kind in readable} == dict(BLOCKS)
