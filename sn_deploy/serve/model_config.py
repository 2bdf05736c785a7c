"""config.pbtxt as Triton's own protobuf message: made from a model, and held against one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from google.protobuf import json_format, text_format  # type: ignore[import-untyped]

from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.tensors import TensorInfo, is_exact
from sn_deploy.runtime.triton import DATATYPES, model_config_schema
from sn_deploy.serve.interface import Interface
from sn_deploy.serve.options import DEFAULT_MAX_BATCH, ServeOptions
from sn_deploy.text import typed_shape

# Parameters that tell `sn-deploy check --triton` about a version: sn_deploy.VERSION.precision and .sha256.
PARAMETERS: Final = "sn_deploy."
# One of them as text, on lines of its own.
_PARAMETER: Final = (
    r'^[ \t]*parameters\s*:?\s*\{{\s*key\s*:\s*"{key}[^"\n]*"\s*'
    r'value\s*:?\s*\{{\s*string_value\s*:\s*"[^"\n]*"\s*\}}\s*\}}[ \t]*\n?'
)
ONNX_RUNTIME: Final = "onnxruntime"
TENSORRT: Final = "tensorrt"
Config = Any  # a ModelConfig: made by protobuf, without types


def make_config(
    interface: Interface,
    options: ServeOptions,
    *,
    backend: str,
    engines: Mapping[str, str],
    library: str | None,
    labels: Mapping[str, str],
    profiles: int = 1,
    largest_batch: int | None = None,
) -> Config:
    """The message.

    Args:
        backend: Triton's name of it.
        engines: compute capability ("9.0"; "" for any other GPU) -> file in the version's folder.
        library: path of the custom operators' library where the server sees it, for ONNX Runtime.
        labels: output -> its file with the labels.
        profiles: that each of the engines has.
        largest_batch: that the engines take; None where nothing says it.

    Raises:
        SnDeployError: the options don't fit the model, or tritonclient is missing.
    """
    schema = model_config_schema()
    max_batch = _max_batch(interface, options, largest_batch)
    config = schema.ModelConfig(name=options.name, backend=backend, max_batch_size=max_batch)
    config.version_policy.latest.num_versions = options.serve_versions
    for field, infos in ((config.input, interface.inputs), (config.output, interface.outputs)):
        for info in infos:
            tensor = field.add(name=info.name, data_type=_type(schema, info), dims=_dims(info, max_batch > 0))
            if not tensor.dims:  # Triton wants an axis beside the batch; the model gets (N,) all the same
                if not max_batch:
                    raise SnDeployError(
                        f"{info.name} is a scalar, and Triton has none",
                        where=f"model {options.name}",
                        mend="export it with an axis: shape (1,)",
                    )
                tensor.dims.append(1)
                tensor.reshape.SetInParent()
    for tensor in config.output:
        tensor.label_filename = labels.get(tensor.name, "")
    if max_batch:
        config.dynamic_batching.preferred_batch_size.extend(options.preferred_batch)
        config.dynamic_batching.max_queue_delay_microseconds = options.max_queue_delay_us
    group = config.instance_group.add(kind=_kind(schema, backend, options), count=options.instances)
    if profiles > 1:  # left out, Triton takes the first alone
        group.profile.extend(map(str, range(profiles)))
    if backend == TENSORRT:
        config.default_model_filename = engines.get("", "model.plan")
        config.cc_model_filenames.update({capability: file for capability, file in engines.items() if capability})
    if library is not None:
        config.model_operations.op_library_filename.append(library)
    if options.threads is not None and backend == ONNX_RUNTIME:
        config.parameters["intra_op_thread_count"].string_value = str(options.threads)
    _add_warmup(schema, config, interface, options)
    return config


def text_from_config(config: Config) -> str:
    """The text that Triton reads, checked to be read back as the same."""
    text = text_format.MessageToString(config, print_unknown_fields=False)
    if config_from_text(text, Path("config.pbtxt")) != config:
        raise SnDeployError("is read back as another", where="config.pbtxt", mend="please report this")
    return str(text)


def config_from_text(text: str, path: Path) -> Config:
    """A config.pbtxt, read as Triton reads it.

    Raises:
        SnDeployError: it isn't one, with the line.
    """
    try:
        return text_format.Parse(text, model_config_schema().ModelConfig())
    except text_format.ParseError as error:
        raise SnDeployError(
            f"can't be read: {error}", where=str(path), expected="Triton's ModelConfig as text"
        ) from error


def check_config(config: Config, interface: Interface, where: str) -> None:
    """Holds a config against the model that it is for.

    Raises:
        SnDeployError: a name, type or shape that differs, or a batch that the model doesn't take; all in one message.
    """
    wrong = list(_differences(config, interface))
    if wrong:
        raise SnDeployError(
            "; ".join(wrong), where=where, mend="mend the config, or serve this model under another --name"
        )


def version_parameters(version: int, precision: str, sha256: Mapping[str, str]) -> dict[str, str]:
    """What is noted of a version: what it computes in, and which files it is made of (file -> SHA-256)."""
    noted = {f"{PARAMETERS}{version}.precision": precision}
    return noted | {f"{PARAMETERS}{version}.sha256.{file}": value for file, value in sha256.items()}


def text_from_parameters(parameters: Mapping[str, str]) -> str:
    """Parameters as text to be put behind a config's: what stands there keeps its form and comments."""
    config = model_config_schema().ModelConfig()
    for key, value in parameters.items():
        config.parameters[key].string_value = value
    return str(text_format.MessageToString(config))


def text_without_version(text: str, version: int, where: str) -> str:
    """A config's text without what is noted of a version whose folder is gone, and which is made again.

    The rest keeps its form and comments.

    Raises:
        SnDeployError: something is noted of that version in another form, and would be held to be that of the new one.
    """
    own = re.compile(_PARAMETER.format(key=re.escape(f"{PARAMETERS}{version}.")), re.MULTILINE)
    left = own.sub("", text)
    still = [key for key in config_from_text(left, Path(where)).parameters if key.startswith(f"{PARAMETERS}{version}.")]
    if still:
        raise SnDeployError(
            f"has parameters of version {version}, which isn't there: {', '.join(sorted(still))}",
            where=where,
            mend="delete them",
        )
    return left


def settings_that_differ(config: Config, other: Config) -> list[str]:
    """Names of the fields that differ, without what is noted of versions."""
    return [field.name for field in config.DESCRIPTOR.fields if _plain(config, field.name) != _plain(other, field.name)]


def _plain(config: Config, field: str) -> Any:
    value = json_format.MessageToDict(config, preserving_proto_field_name=True).get(field)
    if field == "parameters":
        return {key: item for key, item in (value or {}).items() if not key.startswith(PARAMETERS)}
    return value


def _max_batch(interface: Interface, options: ServeOptions, largest_batch: int | None) -> int:
    if not interface.batched:
        for option, given in (
            ("--max-batch", options.max_batch),
            ("--preferred-batch", options.preferred_batch),
            ("--max-queue-delay", options.max_queue_delay_us),
        ):
            if given:
                raise SnDeployError(
                    f"the model takes no batches of any size: {interface.why_not_batched}",
                    where=option,
                    mend="export it with --dynamic batch, or leave the option out",
                )
        return 0
    preferred = max(options.preferred_batch, default=0)
    max_batch = options.max_batch
    if max_batch is None:
        max_batch = max(DEFAULT_MAX_BATCH, preferred)
        max_batch = max_batch if largest_batch is None else min(max_batch, largest_batch)
    if largest_batch == 0 and options.max_batch != 0:
        raise SnDeployError(
            "the engines take no single sample, and Triton makes batches of any size",
            where="--engine",
            mend="build them with a --min of one sample, or turn batching off: --max-batch 0",
        )
    if largest_batch is not None and max_batch > largest_batch:
        raise SnDeployError(
            f"{max_batch} is more than the engines take",
            where="--max-batch",
            expected=f"at most {largest_batch}, the largest batch of their profiles",
            mend="build them with a larger --max",
        )
    if preferred > max_batch:
        raise SnDeployError(
            f"{preferred} is more than {max_batch}", where="--preferred-batch", expected="sizes up to --max-batch"
        )
    if options.max_queue_delay_us and max_batch < 2:
        raise SnDeployError(
            f"changes nothing with batches of {max_batch} at most: no request waits for others",
            where="--max-queue-delay",
            mend="leave it out, or give --max-batch 2 or more",
        )
    return max_batch


def _type(schema: Any, info: TensorInfo) -> int:
    datatype = next(name for name, dtype in DATATYPES.items() if dtype == info.dtype)
    return int(schema.DataType.Value(f"TYPE_{datatype}"))


def _dims(info: TensorInfo, batched: bool) -> list[int]:
    assert info.shape is not None
    return [axis if isinstance(axis, int) else -1 for axis in info.shape[batched:]]


def _kind(schema: Any, backend: str, options: ServeOptions) -> int:
    kinds = {"auto": "KIND_AUTO", "cpu": "KIND_CPU", "gpu": "KIND_GPU"}
    name = "gpu" if backend == TENSORRT else options.device
    return int(schema.ModelInstanceGroup.Kind.Value(kinds[name]))


def _add_warmup(schema: Any, config: Config, interface: Interface, options: ServeOptions) -> None:
    shapes = warmup_shapes(interface, options, batched=config.max_batch_size > 0)
    if not options.warmup or shapes is None:
        return
    for batch in sorted({1, *options.preferred_batch, max(config.max_batch_size, 1)}):
        request = config.model_warmup.add(name=f"batch {batch}", batch_size=batch)
        for info in interface.inputs:
            value = request.inputs[info.name]
            value.data_type = _type(schema, info)
            value.dims.extend(shapes[info.name] or [1])
            # Random integers may be no valid indices.
            value.random_data = not is_exact(info.dtype)
            if not value.random_data:
                value.zero_data = True


def warmup_shapes(interface: Interface, options: ServeOptions, *, batched: bool) -> dict[str, tuple[int, ...]] | None:
    """Input -> the shape of one request without its batch axis; None where an axis has no size.

    Raises:
        SnDeployError: a size that the model doesn't take.
    """
    unknown = [name for name in options.sizes if name not in {info.name for info in interface.inputs}]
    if unknown:
        expected = ", ".join(info.name for info in interface.inputs)
        raise SnDeployError(f"there is no input {unknown[0]!r}", where="--input", expected=expected)
    shapes = {}
    for info in interface.inputs:
        assert info.shape is not None
        given = options.sizes.get(info.name)
        if given is not None and not info.accepts_shape(given):
            raise SnDeployError(typed_shape(given), where=f"--input {info.name}", expected=str(info))
        shape = [
            own if isinstance(own, int) else (given[axis] if given else None) for axis, own in enumerate(info.shape)
        ]
        sizes = shape[batched:]
        if None in sizes:
            return None
        shapes[info.name] = tuple(size for size in sizes if size is not None)
    return shapes


def _differences(config: Config, interface: Interface) -> Iterator[str]:
    schema = model_config_schema()
    batched = config.max_batch_size > 0
    if batched and not interface.batched:
        yield f"max_batch_size is {config.max_batch_size}, and {interface.why_not_batched}"
        return
    for kind, tensors, infos in (
        ("input", config.input, interface.inputs),
        ("output", config.output, interface.outputs),
    ):
        stated = {tensor.name: tensor for tensor in tensors}
        yield from _names(kind, list(stated), [info.name for info in infos])
        for info in infos:
            tensor = stated.get(info.name)
            if tensor is None:
                continue
            if tensor.data_type != _type(schema, info):
                own = schema.DataType.Name(_type(schema, info))
                yield f"{kind} {info.name} is {_type_name(schema, tensor.data_type)}, and the model's is {own}"
            # What a reshape says is what the model gets, or gives.
            dims = list(tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims)
            if dims != _dims(info, batched):
                yield f"{kind} {info.name} has dims {dims}, and the model's are {_dims(info, batched)}"


def _type_name(schema: Any, number: int) -> str:
    """A file may give a type by its number, and any number."""
    return schema.DataType.Name(number) if number in schema.DataType.values() else f"of type {number}"


def _names(kind: str, stated: Sequence[str], own: Sequence[str]) -> Iterator[str]:
    unknown = [name for name in stated if name not in own]
    missing = [name for name in own if name not in stated]
    if unknown:
        yield f"{kind} {', '.join(unknown)} isn't in the model, which has {', '.join(own)}"
    # Triton serves a model of which some outputs aren't named; inputs all have to be given.
    if missing and (kind == "input" or unknown):
        yield f"{kind} {', '.join(missing)} of the model is missing"
