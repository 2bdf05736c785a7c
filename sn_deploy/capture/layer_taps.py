"""What each SN layer of a running torch model reads and makes, and what a ReLU or a residual behind it make of that.

What follows a layer is code of the model's own forward, so it is seen as PyTorch's
operators run: the first addition that takes the layer's output, and the first ReLU that takes either.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from sn_deploy.capture.watch import watching
from sn_deploy.graph import op

# (layer, point) -> whether somebody wants a copy of it.
Wants = Callable[[str, str], bool]


@dataclass
class RecordedCall:
    """One call of one layer.

    Attributes:
        module: its qualified name.
        x: what it was given.
        outputs: operator of `sn_deploy.graph.op` -> what it has made when that operator would be done.
        residual: what was added to its output.
    """

    module: str
    x: torch.Tensor | None
    outputs: dict[str, torch.Tensor] = field(default_factory=dict)
    residual: torch.Tensor | None = None


def record_layers(
    model: torch.nn.Module, names: Mapping[str, Any], run: Callable[[], object], wants: Wants
) -> dict[str, RecordedCall]:
    """Runs the model and records the calls of some of its modules, in the order in which they end.

    Args:
        names: of the modules.
        run: calls the model.
        wants: whether a tensor is to be kept: of a call, under an operator's name, or ``""`` for what it was given.

    Returns:
        Module -> its call; a second call is ``NAME#2``, and so on.
    """
    calls: dict[str, RecordedCall] = {}
    counts: Counter[str] = Counter()
    follower = _Follower(wants)

    def kept(layer: str, point: str, tensor: torch.Tensor) -> torch.Tensor | None:
        # A copy: models add and rectify in place.
        return tensor.detach().clone() if wants(layer, point) else None

    def watched(name: str, module: torch.nn.Module) -> contextlib.AbstractContextManager[None]:
        running: list[tuple[str, RecordedCall]] = []

        def before(x: torch.Tensor | None) -> None:
            counts[name] += 1
            layer = name if counts[name] == 1 else f"{name}#{counts[name]}"
            running.append((layer, RecordedCall(name, None if x is None else kept(layer, "", x))))

        def after(y: object) -> None:
            layer, call = running.pop()
            calls[layer] = call
            if isinstance(y, torch.Tensor):
                made = kept(layer, op.SWITCH_NORM, y)
                if made is not None:
                    call.outputs[op.SWITCH_NORM] = made
                follower.follow(y, layer, call)

        return watching(name, module, before, after)

    modules = dict(model.named_modules(remove_duplicate=False))
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(watched(name, modules[name]))
        with follower:
            run()
    return calls


@dataclass
class _Path:
    """How far a tensor is from the layer that made it: ``residual`` once something was added."""

    layer: str
    call: RecordedCall
    added: bool = False
    residual: torch.Tensor | None = None


_AT = torch.ops.aten
_ADDITIONS = (_AT.add.Tensor, _AT.add_.Tensor)
_RELUS = (_AT.relu.default, _AT.relu_.default)
_CLAMPS = (_AT.clamp_min.default, _AT.clamp_min_.default, _AT.clamp.default, _AT.clamp_.default)


class _Follower(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows the layers' outputs through additions to ReLUs."""

    def __init__(self, wants: Wants) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._wants = wants
        self._paths: Any = WeakTensorKeyDictionary()  # tensor -> paths that lead to it

    def follow(self, tensor: torch.Tensor, layer: str, call: RecordedCall) -> None:
        self._paths[tensor] = [_Path(layer, call)]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        # Before the call: it may be in place.
        ahead = list(self._added(args, kwargs)) if func in _ADDITIONS else []
        behind = self._rectified(func, args, kwargs)
        result = func(*args, **kwargs)
        if ahead:
            self._paths[result] = ahead
        elif isinstance(result, torch.Tensor) and result in self._paths and func in (*_ADDITIONS, *_RELUS, *_CLAMPS):
            del self._paths[result]  # written over
        for path in behind:
            form = op.SWITCH_NORM_ADD_RELU if path.added else op.SWITCH_NORM_RELU
            if form not in path.call.outputs and self._wants(path.layer, form):
                path.call.outputs[form] = result.detach().clone()
                if path.added:
                    path.call.residual = path.residual
        return result

    def _added(self, args: Any, kwargs: Mapping[str, Any]) -> Iterator[_Path]:
        one, other = args[:2]
        if not isinstance(other, torch.Tensor) or one.shape != other.shape or kwargs.get("alpha", 1) != 1:
            return
        for own, residual in ((one, other), (other, one)):
            for path in self._paths.get(own, ()):
                if not path.added:
                    wanted = self._wants(path.layer, op.SWITCH_NORM_ADD_RELU)
                    yield _Path(path.layer, path.call, True, residual.detach().clone() if wanted else None)

    def _rectified(self, func: Any, args: Any, kwargs: Mapping[str, Any]) -> list[_Path]:
        if func in _CLAMPS:
            low, high = (*args[1:], *kwargs.values(), None, None)[:2]
            if low != 0 or high is not None:
                return []
        elif func not in _RELUS:
            return []
        return list(self._paths.get(args[0], ()))
