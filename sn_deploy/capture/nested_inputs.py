"""Models one parameter of which holds several inputs, in a dict or a list: `export` names each by the way to it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def nested_places(model: Any, names: Sequence[str]) -> dict[str, tuple[str, str]] | None:
    """Input -> the parameter of ``forward`` that holds it, and its key there: ``batch_image`` is ``batch["image"]``.

    The key of what is a parameter itself is ``""``. None where a name doesn't begin with a parameter's, or none has a
    key.
    """
    parameters = sorted(inspect.signature(model.forward).parameters, key=len, reverse=True)
    places = {}
    for name in names:
        holder = next((one for one in parameters if name == one or name.startswith(f"{one}_")), None)
        if holder is None:
            return None
        places[name] = holder, name[len(holder) + 1 :]
    return places if any(key for _, key in places.values()) else None


def called_nested(model: Any, places: Mapping[str, tuple[str, str]]) -> Callable[..., Any]:
    """The model as a function of the tensors, in the order of ``places``."""

    def call(*tensors: Any) -> Any:
        arguments: dict[str, Any] = {}
        for (holder, key), tensor in zip(places.values(), tensors, strict=True):
            if key:
                arguments.setdefault(holder, _ByWay())[key] = tensor
            else:
                arguments[holder] = tensor
        bound = inspect.signature(model.forward).bind_partial()
        bound.arguments.update({name: _as_list_where_numbered(value) for name, value in arguments.items()})
        return model(*bound.args, **bound.kwargs)

    return call


class _ByWay(dict[str, Any]):
    """A dict by keys such as ``meta_size``, in which ``meta`` is a dict with ``size``: names don't tell which it is."""

    def __missing__(self, key: object) -> Any:
        inner = _ByWay((name[len(f"{key}_") :], value) for name, value in self.items() if name.startswith(f"{key}_"))
        if not inner:
            raise KeyError(key)
        return _as_list_where_numbered(inner)


def _as_list_where_numbered(value: Any) -> Any:
    if not isinstance(value, dict) or set(value) != {str(index) for index in range(len(value))}:
        return value
    return [value[str(index)] for index in range(len(value))]
