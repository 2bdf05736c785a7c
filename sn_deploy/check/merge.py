"""The parts of a check, put together: bit for bit what one run would have given."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from sn_deploy.check.assemble import Circumstances, result_from
from sn_deploy.check.comparison import Comparison
from sn_deploy.check.document import read_document
from sn_deploy.check.layers.comparison import LayerComparison, LayerTolerance
from sn_deploy.check.limits import Limits
from sn_deploy.check.metrics.choose import metric_from_spec
from sn_deploy.check.result import BackendInfo, CheckResult, as_json
from sn_deploy.check.shard import first_missing, parse_shard
from sn_deploy.errors import SnDeployError, first_line
from sn_deploy.input_file import source_path
from sn_deploy.python_words import naming_arguments
from sn_deploy.user_code import name_of

_RUN_AGAIN: Final = "run this part again"


@naming_arguments()
def read_parts(paths: Sequence[str | os.PathLike[str]]) -> dict[Path, dict[str, Any]]:
    """The documents of all parts of one check, in the order of the parts.

    Args:
        paths: of what `sn-deploy check --shard --json`, or `CheckResult.write_json` of a part, wrote; in any order.

    Raises:
        SnDeployError: one isn't a part, there are parts of different checks, or some are missing or there twice.
    """
    if isinstance(paths, (str, os.PathLike)):
        raise SnDeployError("is one path", where="the parts", expected="a list of those of all parts")
    files = [source_path(path, "a part") for path in paths]
    if len(set(files)) < len(files):
        twice = next(path for path in files if files.count(path) > 1)
        raise SnDeployError("is given twice", where=str(twice))
    other = next((path for path in files if path.suffix.lower() == ".npz"), None)
    if other is not None:
        raise SnDeployError(
            "is no part of a check",
            where=str(other),
            mend="put parts of a calibration together with: sn-deploy calibrate --merge PARTS --checkpoint … -o FILE",
        )
    return _checked({path: read_document(path) for path in files})


def _checked(documents: Mapping[Path, dict[str, Any]]) -> dict[Path, dict[str, Any]]:
    """In the order of the parts, all of them being there, of one check."""
    for path, document in documents.items():
        part = document["partial"]
        if document["shard"] is None or part is None:
            raise SnDeployError("is a whole result, not a part", where=str(path), expected="one of --shard PART/PARTS")
        if not isinstance(part, dict) or not {"specification", "state"} <= part.keys():
            raise SnDeployError("is damaged", where=str(path), mend=_RUN_AGAIN)
    with _damage_told(list(documents)):
        _check_alike(documents)
        return _in_order(documents)


@naming_arguments(metric="user_metrics", shard="shard")
def merge_parts(
    parts: Mapping[Path, Mapping[str, Any]] | Sequence[CheckResult],
    *,
    command: str = "",
    user_metrics: Sequence[str | Callable[..., Any]] = (),
) -> CheckResult:
    """The result of the whole, bit for bit that of one run.

    Args:
        parts: what `read_parts` gave of files, or the results of ``check(…, shard="1/4")`` to ``"4/4"``, in any order.
        command: what was typed; nothing where Python called it.
        user_metrics: of the user's own metrics in the parts, those whose code may be run: a document alone must not
            decide what is run. A function or class itself, or ``PACKAGE.MODULE:CALLABLE``.

    Raises:
        SnDeployError: a damaged part, one that is missing or of another check, or a user's metric that isn't among
            ``user_metrics``.
    """
    if not isinstance(parts, Iterable):
        raise SnDeployError(
            f"is a {type(parts).__name__}",
            where="parts",
            expected="the CheckResults of all parts, or what read_parts gave",
        )
    documents: Mapping[Path, Mapping[str, Any]] = {}
    if parts:
        documents = parts if isinstance(parts, Mapping) else _checked(_documents(parts))
    if not documents:
        raise SnDeployError("there are no parts", where="merge", expected="all parts of one check")
    first = next(iter(documents.values()))
    metrics = {one if isinstance(one, str) else name_of(one): one for one in user_metrics}
    with _damage_told(list(documents)):
        _check_user_metrics(first["partial"]["specification"], list(metrics))
    comparison = None
    for path, document in documents.items():
        with _damage_told([path]):
            comparison = comparison or _empty(first, metrics)
            comparison.merge(document["partial"]["state"])
    assert comparison is not None
    with _damage_told(list(documents)):
        return _whole(comparison, documents, command)


def _documents(results: Sequence[CheckResult]) -> dict[Path, dict[str, Any]]:
    """Of results in memory, under what errors call them."""
    documents = {}
    for index, result in enumerate(results):
        if not isinstance(result, CheckResult):
            raise SnDeployError(
                f"is a {type(result).__name__}",
                where=f"parts[{index}]",
                expected="a CheckResult of a part",
                mend="read files of parts with read_parts",
            )
        documents[Path(f"parts[{index}]")] = as_json(result)
    return documents


def _whole(comparison: Comparison, documents: Mapping[Path, Mapping[str, Any]], command: str) -> CheckResult:
    first = next(iter(documents.values()))
    if comparison.samples != first["data"].get("samples"):
        raise SnDeployError(
            f"the parts have {comparison.samples} samples",
            expected=f"{first['data'].get('samples')}, those of the data",
        )
    # Whichever sample is the whole's largest is its own part's, too.
    names = {index: name for document in documents.values() for index, name in document["sample_names"].items()}
    circumstances = Circumstances(
        command=command,
        machine=_joined([document["machine"] for document in documents.values()]),
        data=first["data"],
        importance=first["importance"],
        seconds=sum(document["seconds"] for document in documents.values()),
        name_of=lambda sample: names.get(str(sample)),
    )
    return result_from(comparison, circumstances)


@contextlib.contextmanager
def _damage_told(paths: Sequence[Path]) -> Iterator[None]:
    """A document that was changed by hand or cut off may break the reader anywhere."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError, MemoryError) as error:
        raise SnDeployError(
            f"{'is' if len(paths) == 1 else 'one of them is'} damaged: {type(error).__name__}: {first_line(error)}",
            where=", ".join(map(str, paths)),
            mend=_RUN_AGAIN,
        ) from error


def _backend_from(row: Mapping[str, Any]) -> BackendInfo:
    info = BackendInfo(**row)
    texts = (info.name, info.kind, info.file or "", info.sha256 or "")
    if not all(isinstance(text, str) for text in texts) or not isinstance(info.versions, dict):
        raise TypeError(f"backend {info.name!r:.80}: {row!r:.200}")
    return info


def _empty(document: Mapping[str, Any], user_metrics: Mapping[str, str | Callable[..., Any]]) -> Comparison:
    specification = document["partial"]["specification"]
    backends = [_backend_from(row) for row in document["backends"]]
    names, reference = [info.name for info in backends], specification["reference"]
    metrics = [metric_from_spec(spec, names, reference, user_metrics) for spec in specification["metrics"]]
    layers = None
    if specification["layers"] is not None:
        layers = LayerComparison(backends, reference, LayerTolerance.from_state(specification["layers"]))
    limits = Limits.from_state(specification["limits"])
    return Comparison(backends, reference, specification["outputs"], metrics, limits, layers)


# What must be the same in all parts -> how it is called in a message.
_ALIKE: Final = {
    "version": "the version of sn-deploy",
    "reference": "the reference",
    "importance": "the SN layers",
}


def _check_alike(documents: Mapping[Path, Mapping[str, Any]]) -> None:
    (first_path, first), *rest = documents.items()
    for path, document in rest:
        for key, title in _ALIKE.items():
            _check_same(document[key], first[key], title, path, first_path)
        _check_same(_content(document["data"]), _content(first["data"]), "the data", path, first_path)
        _check_same(
            document["partial"]["specification"],
            first["partial"]["specification"],
            "limits and metrics",
            path,
            first_path,
        )
        names = [[row["name"] for row in one["backends"]] for one in (document, first)]
        _check_same(names[0], names[1], "the backends", path, first_path)
        for row, other in zip(document["backends"], first["backends"], strict=True):
            for key in row.keys() | other.keys():
                # The same file may lie elsewhere on another machine.
                if key != "file":
                    _check_same(row.get(key), other.get(key), f"{row['name']}'s {key}", path, first_path)


def _content(data: Mapping[str, Any]) -> dict[str, Any]:
    """What the data are, without where they lie: that may differ from machine to machine."""
    places = {"folder", "file"} | ({"labels"} if "labels_sha256" in data else set())
    return {key: value for key, value in data.items() if key not in places}


def _check_same(value: Any, other: Any, title: str, path: Path, first_path: Path) -> None:
    if value == other:
        return
    if isinstance(value, dict) and isinstance(other, dict):
        differing = (key for key in [*value, *other] if value.get(key) != other.get(key))
        # None does where a value is no number: that equals nothing, itself included.
        if (key := next(differing, None)) is not None:
            title, value, other = f"{title}, {key}", value.get(key), other.get(key)
    raise SnDeployError(
        f"is a part of another check than {first_path}: {title}: {value!r:.80} and {other!r:.80}",
        where=str(path),
        expected="parts of one check",
    )


def _in_order(documents: Mapping[Path, dict[str, Any]]) -> dict[Path, dict[str, Any]]:
    by_number: dict[int, Path] = {}
    counts = set()
    for path, document in documents.items():
        shard = parse_shard(str(document["shard"]), where=str(path))
        counts.add(shard.count)
        if shard.number in by_number:
            raise SnDeployError(f"is part {shard}, as {by_number[shard.number]} is", where=str(path))
        by_number[shard.number] = path
    if len(counts) > 1:
        raise SnDeployError(f"the parts are of {' and of '.join(map(str, sorted(counts)))}", expected="one number")
    (count,) = counts
    if missing := first_missing(count, by_number, 10):
        named = ", ".join(f"{number}/{count}" for number in missing)
        raise SnDeployError(
            f"{count - len(by_number)} of {count} parts missing: {named}",
            mend="run them, with --shard",
        )
    return {by_number[number]: documents[by_number[number]] for number in sorted(by_number)}


def _check_user_metrics(specification: Mapping[str, Any], allowed: Sequence[str]) -> None:
    named = [spec["callable"] for spec in specification["metrics"] if spec["kind"] == "user"]
    for text in named:
        if text not in allowed:
            raise SnDeployError(
                f"the parts have the metric {text}, which is code of yours", mend=f"let it run with --metric {text}"
            )
    for text in allowed:
        if text not in named:
            raise SnDeployError(
                "isn't in the parts", where=f"--metric {text}", expected=", ".join(named) or "no such option"
            )


def _joined(machines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The facts of all machines: what they have in common, and else what each one says."""
    keys = list(dict.fromkeys(key for machine in machines for key in machine))
    joined = {}
    for key in keys:
        values = [machine[key] for machine in machines if key in machine]
        different = list({str(value): value for value in values}.values())
        joined[key] = different[0] if len(different) == 1 else "; ".join(sorted(map(str, different)))
    return joined
