"""A part of a pass in a file: exact sums as NumPy arrays, and the rest as JSON, in one .npz without pickle."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from sn_deploy.archive import DAMAGED_ARRAYS, check_unpacked_size
from sn_deploy.atomic import atomic_output
from sn_deploy.calibrate.exact_sums import ExactSums
from sn_deploy.calibrate.one_pass import Pass
from sn_deploy.calibrate.tally import STATISTICS, Identity, Tally, Traits
from sn_deploy.check.shard import first_missing
from sn_deploy.errors import SnDeployError
from sn_deploy.input_file import read_head

_SCHEMA: Final = 1
_HEADER: Final = "sn_deploy.calibrate.part"
_SUMS: Final = ("means", "variances", "squares")
_MOST_CHANNELS: Final = 1 << 20  # of all layers; a network has some ten thousand
# What a file that is damaged, or something else, breaks the reader with.
_DAMAGE: Final = (*DAMAGED_ARRAYS, AttributeError)


@dataclass(frozen=True)
class Part:
    """One shard's part of a pass.

    Attributes:
        found: what it has summed.
        number, count: shard ``number`` of ``count``, from 1.
        fingerprint: of the state dict that the model ran with.
        data: what the source says of itself, the same for every shard.
        keys: the names of the model's state dict.
    """

    found: Pass
    number: int
    count: int
    fingerprint: str
    data: dict[str, Any]
    keys: tuple[str, ...]


def write_part(part: Part, path: Path) -> None:
    """Writes a part, whole or not at all.

    Raises:
        SnDeployError: the file can't be written.
    """
    arrays: dict[str, Any] = {}
    layers = [_layer_header(tally, f"layer{index}", arrays) for index, tally in enumerate(part.found.tallies)]
    found = part.found
    header = {
        "schema": _SCHEMA,
        "number": part.number,
        "count": part.count,
        "fingerprint": part.fingerprint,
        "data": part.data,
        "keys": list(part.keys),
        "statistics": found.statistics,
        "without_bn": found.without_bn,
        "batches": sorted(found.batches.items()),
        "refused": found.refused,
        "order": found.order,
        "layers": layers,
    }
    arrays[_HEADER] = np.array(json.dumps(header))
    with atomic_output(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def _layer_header(tally: Tally, name: str, arrays: dict[str, Any]) -> dict[str, Any]:
    exponents = {}
    for key in _SUMS:
        arrays[f"{name}.{key}"], exponents[key] = getattr(tally.sums, key).to_bytes()
    return {
        "identity": asdict(tally.identity),
        "traits": asdict(tally.traits) if tally.traits else None,
        "calls": tally.sums.calls,
        "weight": tally.sums.weight,
        "exponents": exponents,
    }


def read_part(path: Path) -> Part:
    """The part in a file.

    Raises:
        SnDeployError: the file is missing, or no such part.
    """
    read_head(path)
    try:
        if zipfile.is_zipfile(path):
            check_unpacked_size(path, where=str(path))
        # Opened here: of a damaged file NumPy leaves its own handle open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            header = json.loads(str(arrays[_HEADER][()]))
            if header["schema"] != _SCHEMA:
                raise SnDeployError(
                    f"is a part of schema {header['schema']}",
                    where=str(path),
                    expected=f"schema {_SCHEMA}",
                    mend="make all parts, and merge them, with one version of sn-deploy",
                )
            return _part_from_header(header, arrays)
    except _DAMAGE as error:
        raise SnDeployError(
            "is not a whole part of a calibration",
            where=str(path),
            expected="a file that sn-deploy calibrate --shard wrote",
        ) from error


def _part_from_header(header: dict[str, Any], arrays: Any) -> Part:
    if header["statistics"] not in STATISTICS:
        raise ValueError(header["statistics"])
    # Before anything is made of them: a byte in the file can be a thousand in memory.
    channels = [math.prod(row["identity"]["shape"]) for row in header["layers"]]
    if min(channels, default=0) < 0 or sum(channels) > _MOST_CHANNELS:
        raise ValueError(channels)
    tallies = [_tally(row, f"layer{index}", header["statistics"], arrays) for index, row in enumerate(header["layers"])]
    found = Pass(
        header["statistics"],
        tallies,
        list(header["without_bn"]),
        {int(index): int(samples) for index, samples in header["batches"]},
        dict(header["refused"]),
        list(header["order"]),
    )
    return Part(
        found, int(header["number"]), int(header["count"]), header["fingerprint"], header["data"], tuple(header["keys"])
    )


def _tally(row: dict[str, Any], name: str, statistics: str, arrays: Any) -> Tally:
    names = row["identity"]
    keys = (tuple(names[key]) for key in ("mean_keys", "var_keys", "shape"))
    tally = Tally(Identity(names["layer"], *keys), statistics)
    tally.traits = Traits(**row["traits"]) if row["traits"] else None
    tally.sums.calls, tally.sums.weight = int(row["calls"]), int(row["weight"])
    for key in _SUMS:
        rows = arrays[f"{name}.{key}"]
        if len(rows) != len(tally.sums.means.integers):
            raise ValueError(f"{name}.{key}")
        setattr(tally.sums, key, ExactSums.from_bytes(rows, int(row["exponents"][key])))
    return tally


def merge_parts(paths: Sequence[Path]) -> Part:
    """All parts of a pass, merged; the same to the last bit as the pass in one.

    Raises:
        SnDeployError: a part is missing or given twice, or the parts don't belong together.
    """
    parts = {path: read_part(path) for path in paths}
    (first_path, first), *others = parts.items()
    by_number: dict[int, Path] = {}
    for path, part in parts.items():
        _check_same(first, first_path, part, path)
        if part.number in by_number:
            raise SnDeployError(
                f"is part {part.number}/{part.count}, as is {by_number[part.number]}",
                where=str(path),
                mend="give it once",
            )
        by_number[part.number] = path
    if missing := first_missing(first.count, by_number, 8):
        raise SnDeployError(
            f"part {', '.join(f'{number}/{first.count}' for number in missing)} is missing",
            where="--merge",
            expected=f"all {first.count} parts",
        )
    for path, part in others:
        try:
            first.found.merge(part.found)
        except SnDeployError as error:
            raise SnDeployError(f"{error}", where=f"{first_path} and {path}") from error
    return first


def _check_same(first: Part, first_path: Path, part: Part, path: Path) -> None:
    for what, own, other in (
        ("statistics", part.found.statistics, first.found.statistics),
        ("number of parts", part.count, first.count),
        ("checkpoint", part.fingerprint, first.fingerprint),
        ("data", part.data, first.data),
        ("model", part.keys, first.keys),
    ):
        if own != other:
            shown = f": {own} and {other}" if what in ("statistics", "number of parts") else ""
            raise SnDeployError(
                f"is of another {what} than {first_path}{shown}",
                where=str(path),
                mend="make all parts with the same options but --shard and --output",
            )
