"""Files of .pth, .safetensors, .npy and .npz with something wrong in them, by their structure; by chance, from a seed.

Archives are changed by their entries, pickles by their opcodes (calls of what would run code among them), JSON headers
and NumPy's by their values. What can't be read as what it should be is changed by its bytes.
"""

from __future__ import annotations

import contextlib
import io
import json
import pickletools
import random
import re
import struct
import zipfile
from itertools import pairwise
from typing import Final

from tools.soak_documents import changed_document, damaged

# Whole calls that leave the stack as it was, so that they fit anywhere; and opcodes that call, build or name something.
HOSTILE: Final = (
    b"cos\nsystem\nX\x04\x00\x00\x00true\x85R0", b"cos\nsystem\n(X\x04\x00\x00\x00truetR0",
    b"(X\x04\x00\x00\x00trueios\nsystem\n0", b"(cos\nsystem\nX\x04\x00\x00\x00trueo0",
    b"\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R0", b"csubprocess\nPopen\n)\x81]\x8c\x04truea\x85b0",
    b"cbuiltins\neval\n\x8c\x1e__import__('os').system('true')\x85R0",
    b"cos\nsystem\n", b"cposix\nsystem\n", b"cbuiltins\neval\n", b"cbuiltins\nexec\n", b"cbuiltins\ngetattr\n",
    b"csubprocess\nPopen\n", b"ctorch\nload\n", b"ctorch.storage\n_load_from_bytes\n", b"ctorch.hub\nload\n",
    b"cnumpy\nload\n", b"cnumpy.core.multiarray\n_reconstruct\n", b"cctypes\nCDLL\n", b"cimportlib\nimport_module\n",
    b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch._utils\n_rebuild_parameter\n",
    b"ctorch._utils\n_rebuild_qtensor\n", b"ctorch._utils\n_rebuild_sparse_tensor\n",
    b"ctorch._utils\n_rebuild_meta_tensor_no_storage\n",
    b"ctorch\nSize\n", b"ctorch\nfloat8_e4m3fn\n", b"ctorch\ncomplex64\n", b"ctorch\nHalfStorage\n",
    b"ctorch\nDoubleStorage\n", b"ccollections\nCounter\n", b"c__builtin__\nbytearray\n", b"c__builtin__\nset\n",
    b"\x8c\x02os\x8c\x06system\x93", b"ios\nsystem\n", b"X\x04\x00\x00\x00true\x85R", b"\x8c\x04true\x85R",
    b"R", b"o", b"\x81", b"\x92", b"b", b"\x82\x01", b"P1\n", b"Q", b"\x96\x08\x00\x00\x00\x00\x00\x00\x00abcdefgh",
    b"\x97", b"\x98", b"}", b"]", b")", b"(", b"t", b"u", b"s", b"e", b"a", b"0", b"1", b"2", b"N", b"\x88",
    b"K\xff", b"J\xff\xff\xff\x7f", b"J\x00\x00\x00\x80", b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\x8b\xff\xff\xff\x7f", b"G\x7f\xf0\x00\x00\x00\x00\x00\x00", b"h\x00", b"j\xff\xff\xff\xff", b"q\x00",
    b"\x94", b"\x95\xff\xff\xff\xff\xff\xff\xff\xff", b".",
)  # fmt: skip
# What NumPy's headers name.
TYPES: Final = (
    "'<f4'", "'>f8'", "'<i8'", "'|b1'", "'<U3'", "'|S4'", "'|O'", "'<c8'", "'|V4'", "'<M8[s]'", "[('a', '<f4')]",
    "'<f2'", "'x'", "'<f4,<f4'", "{'names': ['a'], 'formats': ['O']}",
)  # fmt: skip
_NUMBERS: Final = (0, 1, -1, 2, 7, 255, 2**31 - 1, -(2**31), 2**40, 2**63 - 1)


def changed(name: str, content: bytes, draw: random.Random) -> bytes:
    """Another content of a file, by its suffix."""
    with contextlib.suppress(Exception):  # what was damaged before breaks whoever reads it anywhere
        if content[:2] == b"PK":
            return changed_archive(content, draw)
        if name.endswith(".safetensors"):
            return changed_safetensors(content, draw)
        if name.endswith(".npy"):
            return changed_array(content, draw)
        if content[:1] == b"\x80":
            return changed_pickle(content, draw)
    return damaged(content or b"\0", draw, is_json=False)


def changed_archive(content: bytes, draw: random.Random) -> bytes:
    """A zip archive with an entry's content, name or packing changed, or its directory's claims."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        inside = [(entry.filename, archive.read(entry), entry.compress_type) for entry in archive.infolist()]
    at = draw.randrange(len(inside))
    # What torch reads first, more often.
    if draw.random() < 0.6:
        at = next((i for i, (name, *_) in enumerate(inside) if name.endswith("data.pkl")), at)
    name, data, packing = inside[at]
    what = draw.randrange(10)
    if what < 6:
        inside[at] = name, changed_entry(name, data, draw), packing
    elif what == 6:
        del inside[at]
    elif what == 7:
        other = draw.choice(
            (name.upper(), "../" + name, "/" + name, name[: len(name) // 2], "", name + "\x00", "é" * 9)
        )
        inside[at] = other, data, packing
    elif what == 8:
        inside[at] = name, data, draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
    else:
        inside.append((draw.choice((name, "net/constants.pkl", "net/version", "x.npy")), data, packing))
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data, packing in inside:
            archive.writestr(name, data, packing)
    packed = made.getvalue()
    return changed_claims(packed, draw) if draw.random() < 0.15 else packed


def changed_entry(name: str, data: bytes, draw: random.Random) -> bytes:
    """The content of an archive's entry, by what it is."""
    if name.endswith(".pkl"):
        return changed_pickle(data, draw)
    if data.startswith(b"\x93NUMPY"):
        return changed_array(data, draw)
    return damaged(data, draw, is_json=False) if data else b"\x00"


def changed_claims(content: bytes, draw: random.Random) -> bytes:
    """An archive whose directory says something else of an entry: a flag, a size, a packing, a place."""
    made = bytearray(content)
    entries = [found.start() for found in re.finditer(rb"PK\x01\x02", content)]
    at = draw.choice(entries)
    offset, size = draw.choice(((8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (32, 2), (42, 4)))
    value = draw.choice((0, 1, 8, 99, 2**15, 2**31, 2**32 - 1, draw.randrange(len(content)))) % (1 << 8 * size)
    made[at + offset : at + offset + size] = value.to_bytes(size, "little")
    return bytes(made)


def changed_pickle(content: bytes, draw: random.Random) -> bytes:
    """A pickle, or several behind each other, with opcodes taken out, doubled, exchanged, or hostile ones put in."""
    starts = _opcodes(content)
    if len(starts) < 3 or draw.random() < 0.1:
        return damaged(content, draw, is_json=False)
    pieces = [content[start:end] for start, end in pairwise([*starts, len(content)])]
    for _ in range(draw.choice((1, 1, 2, 4))):
        at, what = draw.randrange(1, len(pieces)), draw.randrange(7)
        if what < 3:
            pieces[at:at] = draw.choices(HOSTILE, k=draw.choice((1, 1, 2, 3)))
        elif what == 3 and len(pieces) > 2:
            del pieces[at]
        elif what == 4:
            pieces.insert(draw.randrange(1, len(pieces)), pieces[at])
        elif what == 5:
            other = draw.randrange(1, len(pieces))
            pieces[at], pieces[other] = pieces[other], pieces[at]
        else:
            pieces[at] = _other_number(pieces[at], draw)
    return b"".join(pieces)


def _opcodes(content: bytes) -> list[int]:
    """Where opcodes begin, as far as they can be read; of pickles behind each other (the old format), all."""
    starts: list[int] = []
    stream = io.BytesIO(content)
    with contextlib.suppress(ValueError, struct.error, OverflowError):
        while stream.tell() < len(content) and len(starts) < 5000:
            starts += [place for _, _, place in pickletools.genops(stream) if place is not None]
    return starts


def _other_number(piece: bytes, draw: random.Random) -> bytes:
    """The opcode with another argument of the same length, where it has one."""
    if len(piece) < 2:
        return piece
    value = draw.choice(_NUMBERS) & ((1 << 8 * min(len(piece) - 1, 8)) - 1)
    argument = value.to_bytes(min(len(piece) - 1, 8), "little")
    return piece[:1] + argument + piece[1 + len(argument) :]


def changed_safetensors(content: bytes, draw: random.Random) -> bytes:
    """A .safetensors file with its header's values changed, or its length."""
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    if draw.random() < 0.15:
        return struct.pack("<Q", draw.choice((0, 1, length - 1, length + 8, 2**32, 2**63))) + content[8:]
    if draw.random() < 0.3 and header:
        name = draw.choice(list(header))
        header[draw.choice((f"{name}.{name}", "." * 5000, "1²2.mean_weight", "9" * 5000 + ".var_weight", ""))] = (
            header.pop(name)
        )
    elif draw.random() < 0.4:
        entry = draw.choice([one for one in header.values() if isinstance(one, dict) and "dtype" in one])
        entry["dtype"] = draw.choice(
            ("F64", "F16", "BF16", "F8_E4M3", "F8_E5M2", "I64", "U8", "BOOL", "C64", "F4", "X")
        )
    else:
        header = changed_document(header, draw)
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(text)) + text + data


def changed_array(content: bytes, draw: random.Random) -> bytes:
    """A .npy file with another type, order or shape in its header, or other bytes."""
    if draw.random() < 0.3:
        return damaged(content, draw, is_json=False)
    size = struct.unpack("<H", content[8:10])[0]
    header, data = content[10 : 10 + size].decode("latin-1"), content[10 + size :]
    shape = "(" + "".join(f"{draw.choice(_NUMBERS)}, " for _ in range(draw.randrange(6))) + ")"
    what = draw.randrange(5)
    if what == 0:
        header = re.sub(r"('descr': )('[^']*'|\[.*?\])", lambda found: found[1] + draw.choice(TYPES), header)
    elif what == 1:
        header = re.sub(r"'shape': \([^)]*\)", lambda found: f"'shape': {shape}", header)
    elif what == 2:
        header = header.replace("False", draw.choice(("True", "0", "None", "[]", "(((((((((", "'" * 50)))
    elif what == 3:
        header = header[: draw.randrange(len(header))] + draw.choice(("(", "[", "{", "'", "\\", "\n", "é")) + header
    else:
        data = data[: draw.randrange(len(data) + 1)] + data[: draw.choice((0, 1, 100))]
    packed = header.encode("latin-1", "replace")
    return content[:8] + struct.pack("<H", len(packed) % 65536) + packed + data
