"""`sn-deploy serve triton`: a model into a Triton repository, with what deploys it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from sn_deploy.arguments import of_kind, several_texts
from sn_deploy.atomic import atomic_output
from sn_deploy.errors import SnDeployError
from sn_deploy.hashing import sha256_of_file
from sn_deploy.input_file import check_is_path, source_path
from sn_deploy.printed import Printed
from sn_deploy.python_words import in_callers_words, naming_arguments
from sn_deploy.serve.deployment import OPTIONS_IN_PYTHON as DEPLOY_OPTIONS
from sn_deploy.serve.deployment import DeployOptions, deployment_files, server_command
from sn_deploy.serve.engines import ANY_FILE, ANY_GPU
from sn_deploy.serve.labels import labels_file, read_labels
from sn_deploy.serve.model_config import (
    ONNX_RUNTIME,
    PARAMETERS,
    TENSORRT,
    check_config,
    config_from_text,
    make_config,
    settings_that_differ,
    text_from_config,
    text_from_parameters,
    text_without_version,
    version_parameters,
    warmup_shapes,
)
from sn_deploy.serve.options import OPTIONS_IN_PYTHON as SERVE_OPTIONS
from sn_deploy.serve.options import ServeOptions
from sn_deploy.serve.payload import MODEL_FILE, Payload, read_payload
from sn_deploy.serve.proof import prove_batches
from sn_deploy.serve.repository import CONFIG, ModelFolder, add_version, read_folder, read_text

if TYPE_CHECKING:
    from sn_deploy.console import Console

KEEP: Final = "keep"
REPLACE: Final = "replace"
_NOT_KEPT: Final = "mend it, or --config replace"


@dataclass(frozen=True, repr=False)
class ServeReport(Printed):
    """What was written.

    Attributes:
        folder: REPOSITORY/NAME; version: the one that was added.
        config: the text of config.pbtxt.
        max_batch: samples that are put together at most; 0 for none.
        why_not_batched: where the model takes no batches.
        proved: what was seen of batches; None where it couldn't be tried.
        files: written beside the model's folder.
        command: of the server.
        notes: for people.
    """

    folder: Path
    version: int
    config: str
    max_batch: int
    why_not_batched: str | None
    proved: str | None
    files: Sequence[Path]
    command: Sequence[str]
    notes: Sequence[str]

    def _line(self) -> str:
        return f"{self.folder}, version {self.version}"

    def _print(self, console: Console) -> None:
        from sn_deploy.serve.show import print_report

        print_report(console, self)


@naming_arguments(SERVE_OPTIONS, DEPLOY_OPTIONS, engine="engines")
def serve_triton(
    model: str | os.PathLike[str],
    repository: str | os.PathLike[str],
    options: ServeOptions,
    deploy: DeployOptions = DeployOptions(),  # noqa: B008 (frozen)
    *,
    engines: Sequence[str] = (),
    config: Literal["keep", "replace"] | None = None,
) -> ServeReport:
    """Adds a version of a model to a Triton repository, which is made where there is none.

    Args:
        model: an ONNX file, or one engine with its sidecar.
        repository: Triton's folder of models.
        options: how the model is served, its name first of all.
        deploy: how the server is deployed: what stands in the manifests beside it.
        engines: ``[smXY=]FILE``, TensorRT engines that were built from it, to be served in its place.
        config: what becomes of a config.pbtxt that says otherwise: ``keep`` or ``replace``; None to refuse.

    Raises:
        SnDeployError: whatever is wrong, before anything is written.
        CheckFailedError: the model's samples see each other in a batch.
    """
    model = source_path(model)
    check_is_path(repository, "the repository")
    repository = Path(repository)
    of_kind(options, ServeOptions, "options")
    of_kind(deploy, DeployOptions, "deploy")
    engines = several_texts(engines, "engines", "[smXY=]FILE")
    payload = read_payload(model, engines, options)
    folder = read_folder(repository, options.name)
    labels = read_labels(options.labels, payload.interface)
    label_files = {output: labels_file(output) for output in labels}
    names = [library.name for library in payload.libraries]
    made = make_config(
        payload.interface,
        options,
        backend=payload.backend,
        engines=payload.engines,
        library=_custom_operators(payload, options),
        labels=label_files,
        profiles=payload.profiles,
        largest_batch=payload.largest_batch,
    )
    check_config(made, payload.interface, CONFIG)
    text, notes = _config_text(folder, made, payload, config)
    text = text_without_version(text, folder.next_version, str(folder.path / CONFIG))
    made = config_from_text(text, folder.path / CONFIG)  # with --config keep it says other things than the options
    proved, more = _prove(made, payload, options)
    parameters = version_parameters(folder.next_version, payload.precision, payload.sha256())
    texts = _label_texts(folder, {label_files[output]: lines for output, lines in labels.items()}, config)
    notes += _replaced_libraries(folder, payload)
    command = server_command(options, names if payload.backend == TENSORRT else [], host_code=payload.host_code)
    deployment = _deployment(folder.next_version, options, deploy, payload, made, command, [CONFIG, *texts, *names])
    _refuse_existing(repository, deployment)
    whole = text.rstrip("\n") + "\n" + text_from_parameters(parameters)
    config_from_text(whole, folder.path / CONFIG)
    version = add_version(
        folder,
        payload.files,
        config=whole,
        shared={library.name: library for library in payload.libraries},
        texts=texts,
    )
    written = [_write(repository / name, content) for name, content in deployment.items()]
    return ServeReport(
        folder=folder.path,
        version=version,
        config=whole,
        max_batch=made.max_batch_size,
        why_not_batched=payload.interface.why_not_batched,
        proved=proved,
        files=written,
        command=command,
        notes=[in_callers_words(note) for note in (*payload.notes, *notes, *more)],
    )


def _custom_operators(payload: Payload, options: ServeOptions) -> str | None:
    """The library's path as the server sees it: its ONNX Runtime backend takes no other."""
    if payload.backend != ONNX_RUNTIME or not payload.libraries:
        return None
    return f"{options.server_path}/{options.name}/{payload.libraries[0].name}"


def _config_text(folder: ModelFolder, made: Any, payload: Payload, wanted: str | None) -> tuple[str, list[str]]:
    """The text of config.pbtxt without what is noted of the new version, and notes."""
    if folder.config is None:
        return text_from_config(made), []
    path = folder.path / CONFIG
    there = config_from_text(folder.config, path)
    backend = there.backend or there.platform.partition("_")[0]
    if not backend:  # Triton would go by the names of files, the next one's too
        raise SnDeployError("names no backend", where=str(path), mend=f'add the line backend: "{made.backend}"')
    if backend != made.backend:
        raise SnDeployError(
            f"its versions are run by {there.backend or there.platform}",
            where=str(path),
            expected=made.backend,
            mend="serve this one under another --name",
        )
    check_config(there, payload.interface, str(path))
    differing = settings_that_differ(there, made)
    if not differing or wanted == KEEP:
        _check_kept(there, payload, str(path))
        kept = [f"{CONFIG} is kept; it differs in {', '.join(differing)}"] if differing else []
        return folder.config, kept
    if wanted != REPLACE:
        raise SnDeployError(
            f"says otherwise of {', '.join(differing)}",
            where=str(path),
            mend="give the options that it was made with, or --config keep, or --config replace",
        )
    noted = {key: value.string_value for key, value in there.parameters.items() if key.startswith(PARAMETERS)}
    return text_from_config(made) + text_from_parameters(noted), [f"{CONFIG} is replaced: {', '.join(differing)}"]


def _check_kept(config: Any, payload: Payload, where: str) -> None:
    """A config that stays names the files of this version, too, and a batch that it takes: else it wouldn't load."""
    usual = MODEL_FILE if payload.backend == ONNX_RUNTIME else ANY_FILE
    for capability, file in (payload.engines or {ANY_GPU: MODEL_FILE}).items():
        named = config.cc_model_filenames.get(capability) or config.default_model_filename or usual
        if named != file:
            raise SnDeployError(
                f"names the file {named}" + (f" for GPUs of compute capability {capability}" if capability else ""),
                where=where,
                expected=f"{file}, what this version has",
                mend=_NOT_KEPT,
            )
    if payload.largest_batch is not None and config.max_batch_size > payload.largest_batch:
        raise SnDeployError(
            f"max_batch_size is {config.max_batch_size}, and the engines take {payload.largest_batch} at most",
            where=where,
            mend=_NOT_KEPT,
        )


def _label_texts(folder: ModelFolder, labels: Mapping[str, Sequence[str]], wanted: str | None) -> dict[str, str]:
    """File -> its text. All versions have them in common: other names than before have to be meant."""
    texts = {}
    for name, lines in labels.items():
        path, text = folder.path / name, "\n".join(lines) + "\n"
        there = read_text(path) if path.is_file() else text
        if there != text and wanted is None:
            raise SnDeployError(
                "has other labels", where=str(path), mend="serve this model under another --name, or --config replace"
            )
        texts[name] = there if wanted == KEEP else text
    return texts


def _replaced_libraries(folder: ModelFolder, payload: Payload) -> list[str]:
    there = [library for library in payload.libraries if (folder.path / library.name).is_file()]
    other = [one for one in there if sha256_of_file(folder.path / one.name) != sha256_of_file(one)]
    return [f"{library.name} is replaced by the one that is built here, for all versions" for library in other]


def _prove(made: Any, payload: Payload, options: ServeOptions) -> tuple[str | None, list[str]]:
    if not made.max_batch_size:
        return None, []
    if payload.onnx is None:
        return None, ["batches weren't tried: there is no ONNX file"]
    shapes = warmup_shapes(payload.interface, options, batched=True)
    if shapes is None:
        return None, [
            "batches weren't tried, and there is no warm-up: give the sizes that the file leaves open: --input"
        ]
    library = payload.libraries[0] if payload.backend == ONNX_RUNTIME and payload.libraries else None
    try:
        return prove_batches(payload.onnx, payload.interface, shapes, payload.precision, library=library), []
    except SnDeployError as error:
        if "onnxruntime can't be imported" not in error.what:
            raise
        return None, ["batches weren't tried: onnxruntime isn't installed"]


def _deployment(
    version: int,
    options: ServeOptions,
    deploy: DeployOptions,
    payload: Payload,
    made: Any,
    command: Sequence[str],
    shared: Sequence[str],
) -> dict[str, str]:
    return deployment_files(
        version,
        options,
        deploy,
        command=command,
        shared=shared,
        tensorrt=payload.backend == TENSORRT,
        max_batch=made.max_batch_size,
    )


def _refuse_existing(repository: Path, files: Mapping[str, str]) -> None:
    there = [name for name in files if (repository / name).exists()]
    if there:
        raise SnDeployError("is there already", where=str(repository / there[0]), mend="move it away, or delete it")


def _write(path: Path, text: str) -> Path:
    with atomic_output(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path
