"""The state dict in a checkpoint: which of its (nested) dicts it is, and which prefixes its keys carry too much."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch

from sn_deploy.errors import SnDeployError
from sn_deploy.free_memory import free_memory

# Names that wrappers put before a parameter's own, wherever the wrapped module sits: DataParallel and
# DistributedDataParallel (module), torch.compile (_orig_mod), FullyShardedDataParallel, activation checkpointing, and
# Lightning Fabric (_forward_module).
_WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")
# What a wrapper adds of its own: torch.optim.swa_utils.AveragedModel's count.
_WRAPPERS_OWN = frozenset({"n_averaged"})
_MAX_DEPTH = 8  # of nested dicts
_MAX_DICTS = 10_000  # a few bytes can nest one dict in itself many million times


@dataclass(frozen=True, eq=False)
class StateDict:
    """A dict of tensors found in a checkpoint.

    Attributes:
        key: where it was found, dotted; ``''`` for the top level.
        tensors: its tensors by name, in the file's order.
        metadata: torch's versions by module name, which ``load_state_dict`` goes by; empty where there is none.
        stripped: what was taken off its names: wrappers anywhere in them, then a prefix.
        prefix: that prefix, where there is one.
        path: where it was found, key by key.
        names: name -> the name that the tensor has in the file.
    """

    key: str
    tensors: dict[str, torch.Tensor]
    metadata: dict[str, object]
    stripped: tuple[str, ...] = ()
    prefix: str = ""
    path: tuple[str, ...] = ()
    names: dict[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """What ``--checkpoint-key`` takes to choose it: the key, and the prefix that was stripped."""
        return ".".join(part for part in (self.key, self.prefix.rstrip(".")) if part)


def find_state_dicts(tree: object, where: str | None = None) -> list[StateDict]:
    """All dicts in ``tree`` with str keys and a tensor among their values, outer ones first."""
    return list(_walk(tree, (), frozenset(), itertools.count(), where))


def _walk(
    tree: object, path: tuple[str, ...], above: frozenset[int], visits: Iterator[int], where: str | None
) -> Iterator[StateDict]:
    # Optimizer states have int keys below them, and lists: neither is entered.
    if not isinstance(tree, Mapping) or not all(isinstance(name, str) for name in tree):
        return
    if id(tree) in above or len(above) >= _MAX_DEPTH:
        return
    if next(visits) >= _MAX_DICTS:
        raise SnDeployError(
            f"holds more than {_MAX_DICTS} dicts", where=where, expected="a state dict, or a dict with one"
        )
    tensors = {name: value for name, value in tree.items() if isinstance(value, torch.Tensor)}
    if tensors:
        metadata = getattr(tree, "_metadata", None)
        versions = _versions(metadata) if isinstance(metadata, Mapping) else {}
        yield StateDict(".".join(path), tensors, versions, path=path, names={name: name for name in tensors})
    for name, value in tree.items():
        yield from _walk(value, (*path, name), above | {id(tree)}, visits, where)


def _versions(metadata: Mapping[object, object]) -> dict[str, object]:
    """What ``load_state_dict`` may be told of modules: it believes anything, and lets a file take the place of a
    parameter, in the file's own type, if that asks for it.
    """
    found: dict[str, object] = {}
    for module, says in metadata.items():
        if isinstance(module, str) and isinstance(says, Mapping):
            found[module] = {
                key: value
                for key, value in says.items()
                if key != "assign_to_params_buffers" and (key != "version" or isinstance(value, int))
            }
    return found


def select(
    tree: object,
    *,
    where: str,
    key: str | None,
    match: Collection[str] | None,
    accept: Callable[[dict[str, torch.Tensor]], bool] | None = None,
) -> StateDict:
    """The state dict that ``key`` names, or else the only one that fits ``match``.

    Args:
        tree: the object read from the checkpoint.
        where: the file, for messages.
        key: dotted path of the dict; what is left of it where no dict has that name is a prefix of the tensors'
            names (``state_dict.teacher`` is ``teacher.*`` in ``state_dict``).
        match: the model's keys. Prefixes are stripped as far as that makes more names fit. Without it the names stay
            as they are, and the only dict with a tensor that is not a scalar is chosen.
        accept: without ``match``, prefer the dicts for which this is true, if there are any.

    Raises:
        SnDeployError: nothing fits, several fit equally, or ``key`` names nothing.
    """
    if isinstance(tree, torch.Tensor) or not isinstance(tree, Mapping):
        raise SnDeployError(f"holds a {type(tree).__name__}", where=where, expected="a state dict, or a dict with one")
    found = find_state_dicts(tree, where)
    if not found:
        raise SnDeployError("holds no tensors by name", where=where, expected="a state dict, or a dict with one")
    if key is not None:
        found = [_named(found, key, where)]
    chosen = _chosen(found, match, accept, where)
    _check_sizes(chosen, where)
    return chosen


def _chosen(
    found: list[StateDict],
    match: Collection[str] | None,
    accept: Callable[[dict[str, torch.Tensor]], bool] | None,
    where: str,
) -> StateDict:
    if match is None:
        accepted = [s for s in found if accept is None or accept(s.tensors)] or found
        return _only([s for s in accepted if any(t.ndim for t in s.tensors.values())] or accepted, where)
    names = frozenset(match)
    fits = [fit for state in found for fit in best_fits(state, names)]
    best = max((_matches(fit, names) for fit in fits), default=0)
    if best == 0:
        raise _nothing_fits(found, names, where)
    return _only([fit for fit in fits if _matches(fit, names) == best], where)


def _check_sizes(state: StateDict, where: str) -> None:
    """Refuses tensors without data, and those that repeat what the file has until no memory holds them.

    A tensor's strides may be 0: one number of the file is then any number of elements.
    """
    claimed = 0
    for name, tensor in state.tensors.items():
        if tensor.is_meta:
            raise SnDeployError(f"{name} has a shape and no data", where=where, expected="tensors with their data")
        claimed += tensor.numel() * tensor.element_size()
    if claimed > (free := free_memory()):
        raise SnDeployError(
            f"its tensors claim {claimed / (1 << 30):.1f} GiB",
            where=where,
            expected=f"at most the {free / (1 << 30):.1f} GiB of memory that are free",
        )


def _named(found: list[StateDict], key: str, where: str) -> StateDict:
    # The longest dict name wins; names may have dots themselves, so they are compared whole.
    for state in sorted(found, key=lambda state: len(state.key), reverse=True):
        if key == state.key:
            return state
        above = f"{state.key}." if state.key else ""
        if key.startswith(above):
            inner = _without_prefix(state, key[len(above) :] + ".", keep_others=False)
            if inner.tensors:
                return inner
    raise SnDeployError(
        f"has no state dict {key!r}", where=where, expected=f"one of {_listed(found)}", mend="correct --checkpoint-key"
    )


def _only(states: list[StateDict], where: str) -> StateDict:
    if len(states) > 1:
        raise SnDeployError(
            f"several state dicts fit equally well: {_listed(states)}",
            where=where,
            mend=f"choose one, for example with --checkpoint-key {states[0].address or repr('')}",
        )
    return states[0]


def _nothing_fits(found: list[StateDict], names: frozenset[str], where: str) -> SnDeployError:
    largest = max(found, key=lambda state: len(state.tensors))
    return SnDeployError(
        f"no state dict in it fits the model: it has {_listed(found)}, with names such as {_examples(largest.tensors)}",
        where=where,
        expected=f"names such as {_examples(names)}" if names else "a model with parameters",
        mend="check that --model is the network that the checkpoint was trained with",
    )


def _listed(states: Iterable[StateDict]) -> str:
    return ", ".join(
        f"{repr(state.address) if state.address else 'the top level'} ({len(state.tensors)} tensors)"
        for state in states
    )


def _examples(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)[:3])


def best_fits(state: StateDict, names: frozenset[str]) -> list[StateDict]:
    """``state`` with the prefix off that lets the most keys fit ``names``: several on a tie, none if nothing fits."""
    options = [(plain, _votes_by_prefix(plain, names)) for plain in (state, _without_wrappers(state))]
    # max keeps the first on a tie: wrappers inside a name go only where that fits more than a prefix alone.
    plain, votes = max(options, key=lambda option: max(option[1].values(), default=0))
    prefixes = [prefix for prefix, count in votes.items() if count == max(votes.values())]
    if "" in prefixes:
        prefixes = [""]
    return [_without_wrappers_own(_without_prefix(plain, prefix), names) for prefix in prefixes]


def _matches(state: StateDict, names: frozenset[str]) -> int:
    return sum(name in names for name in state.tensors)


def _votes_by_prefix(state: StateDict, names: frozenset[str]) -> Counter[str]:
    """How many keys would fit ``names`` with each prefix stripped."""
    votes: Counter[str] = Counter()
    longest = max((name.count(".") + 1 for name in names), default=0)
    for name in state.tensors:
        parts = name.split(".")
        for start in range(max(len(parts) - longest, 0), len(parts)):
            rest = ".".join(parts[start:])
            if rest in names:
                votes[name[: len(name) - len(rest)]] += 1
    return votes


def _without_wrappers(state: StateDict) -> StateDict:
    """``state`` with the wrappers' components removed wherever they stand in its names."""

    def rename(name: str) -> str:
        return ".".join(part for part in name.split(".") if part not in _WRAPPERS)

    met = [wrapper for wrapper in _WRAPPERS if any(wrapper in name.split(".") for name in state.tensors)]
    tensors = {rename(name): tensor for name, tensor in state.tensors.items()}
    if not met or len(tensors) != len(state.tensors):  # nothing to do, or two names would become one
        return state
    names = {rename(name): own for name, own in state.names.items()}
    metadata = {rename(name): value for name, value in state.metadata.items()}
    stripped = (*state.stripped, *(f"{wrapper}." for wrapper in met))
    return dataclasses.replace(state, tensors=tensors, names=names, metadata=metadata, stripped=stripped)


def _without_prefix(state: StateDict, prefix: str, *, keep_others: bool = True) -> StateDict:
    """``state`` with ``prefix`` taken off the names that have it; of two equal names then, that one stays."""
    if not prefix:
        return state
    renamed = {n[len(prefix) :]: n for n in state.tensors if n.startswith(prefix)}
    if keep_others:
        renamed |= {n: n for n in state.tensors if not n.startswith(prefix) and n not in renamed}
    tensors = {name: state.tensors[before] for name, before in renamed.items()}
    names = {name: state.names[before] for name, before in renamed.items()}
    metadata = {f"{n}."[len(prefix) :].rstrip("."): v for n, v in state.metadata.items() if f"{n}.".startswith(prefix)}
    stripped = (*state.stripped, prefix)
    return dataclasses.replace(
        state, tensors=tensors, names=names, metadata=metadata, stripped=stripped, prefix=state.prefix + prefix
    )


def _without_wrappers_own(state: StateDict, names: frozenset[str]) -> StateDict:
    if not any("module" in prefix.split(".") for prefix in state.stripped):
        return state
    tensors = {n: tensor for n, tensor in state.tensors.items() if n in names or n not in _WRAPPERS_OWN}
    return dataclasses.replace(state, tensors=tensors)
