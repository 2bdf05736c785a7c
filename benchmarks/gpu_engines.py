"""TensorRT engines of the demo's net and of ResNet-50 with SN on a GPU: with the plugin, from the function body, and
the floor, the same net with batch norms in its norms' places, which TensorRT folds into the convolutions.

    python benchmarks/gpu_engines.py --plugins build/plugins/tensorrt --output gpu_engines.json [--goals]
    python benchmarks/gpu_engines.py --files FOLDER --make-files      # ahead, where no GPU is; 10 MB
    python benchmarks/gpu_engines.py --rehearse --nets digits --output rehearsal.json

Whatever the plugin's engine takes over the floor is what SN costs. A measurement is one net, one precision, one batch,
in an engine for that batch alone (static) or for 1 to 128 (dynamic). Its engines run in turns, from CUDA graphs, beside
torch eager and ONNX Runtime's CUDA provider in the same precision where these are there; what is slow to prepare, the
function body's engine and torch.compile, beside the first two at one batch. Each engine's logits are held against
torch's in float32 first. Nothing uses TF32. What fails is noted, and the rest goes on.

Called again with the same output it goes on with what is missing; the exit code is 3 while something is, and 1 where an
engine doesn't agree with torch. It ends by itself: nothing is begun that isn't likely to end within --budget, and a
build that is under way 20 s behind it is ended. Without a GPU or TensorRT nothing is measured and the exit code is 2.
--goals measures what the goals of docs/performance.md are set for and nothing else. --rehearse takes every step over
ONNX Runtime on the CPU in the place of engines, and its times mean nothing. Nets with fused convolutions, which have to
be named, are a trial: a plugin that nothing else uses yet, beside the product's (docs/decisions, 16).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import torch
from gpu_machines import BODY, COMPILED, Machine, Opened, RehearsalMachine, TensorRtMachine, TimeUpError
from gpu_nets import FLOAT_OF, FLOOR, FORMS, NETS, PLUGIN, PRECISIONS, USUAL, Files, Net, at_batch, pack
from gpu_timing import FAILURES, UNFINISHED, Make, Timed, all_made, in_turns, reason_of, summary
from interleaved import command_line, write_results

from sn_deploy.atomic import check_writable
from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.native import find_library
from sn_deploy.runtime.tensors import Array

BATCHES: Final = [32, 1, 8, 128]  # in the order of interest: the time may end before the last
STATIC, DYNAMIC, SLOW = "static", "dynamic", "slow"
LARGEST_BATCH = 128
SLOW_BATCH = 32  # what is slow to prepare is measured at one batch alone
COMPARED_IMAGES = 1000  # of the demo's set
# Relative L2 of the logits to torch in float32: sn_deploy.compare.tolerances for half types, and what 8 bits cost.
AGREES = {"fp32": 1e-4, "fp16": 16 * 2.0**-11, "bf16": 16 * 2.0**-8, "int8": 0.15}
# Of TensorRT's builder, by its version and the GPU.
KNOWN_TIMINGS: Final = Path(__file__).resolve().parent / "results/gpu/timings"
GRACE_S = 20  # after the budget, for what was begun within it
# Guesses of how long a group of measurements takes, until one like it has been timed on this machine.
SECONDS: Final = {STATIC: 90.0, DYNAMIC: 150.0, SLOW: 180.0}
SECONDS_OF_DIGITS: Final = 40.0
SECONDS_TO_COMPILE: Final = 120.0


@dataclass(frozen=True, order=True)
class Cell:
    """One measurement."""

    net: str
    precision: str
    shapes: str
    batch: int

    @property
    def path(self) -> tuple[str, ...]:
        """Where it stands in the results."""
        return (self.net, self.precision, self.shapes, str(self.batch))


@dataclass(frozen=True)
class Group:
    """Measurements that share engines: all batches of dynamic ones; one of static ones; or what is slow beside them."""

    net: str
    precision: str
    kind: str  # STATIC, DYNAMIC or SLOW
    batches: tuple[int, ...]

    @property
    def cells(self) -> list[Cell]:
        """What it gives; the slow ones are added to a static measurement."""
        shapes = DYNAMIC if self.kind == DYNAMIC else STATIC
        return [Cell(self.net, self.precision, shapes, batch) for batch in self.batches]

    @property
    def guess_s(self) -> float:
        """How long it may take, on a machine that nothing is known of."""
        return SECONDS_OF_DIGITS if self.net == "digits" else SECONDS[self.kind]

    def is_like(self, key: str) -> bool:
        """Whether a group with this key takes about as long."""
        return key.split("/")[:3:2] == self.key.split("/")[:3:2]

    @property
    def key(self) -> str:
        """For what is known of its time."""
        own = (self.net.split()[0], self.precision, self.kind)
        # The builder takes three times as long for a batch of 128 as for one of 8.
        return "/".join((*own, str(self.batches[0])) if self.kind == STATIC else own)


def groups(nets: Sequence[str], precisions: Sequence[str], batches: Sequence[int]) -> list[Group]:
    """All, those that goals are set for first, and of these what is slow last: it may take the time of all others."""
    found: list[Group] = []
    larger = [net for net in nets if net != "digits" and not NETS[net].fused]
    for precision in precisions:
        found += [Group(net, precision, STATIC, (batch,)) for net in nets if net != "digits" for batch in batches]
        if "digits" in nets:
            found.append(Group("digits", precision, DYNAMIC, tuple(batches)))
        if SLOW_BATCH in batches:
            found += [Group(net, precision, SLOW, (SLOW_BATCH,)) for net in larger]
    for precision in precisions:
        found += [Group("digits", precision, STATIC, (batch,)) for batch in batches if "digits" in nets]
        found += [Group(net, precision, DYNAMIC, tuple(batches)) for net in larger]
    return found


def is_goal(group: Group) -> bool:
    """Whether a goal is set for it."""
    return group.precision == "fp16" and (group.kind == DYNAMIC) == (group.net == "digits")


# --- Measurements ---------------------------------------------------------------------------------------------------


@dataclass
class Bench:
    """What all measurements share, and what they found."""

    machine: Machine
    files: Files
    rounds: int
    deadline: float
    results: dict[str, Any] = field(default_factory=dict)
    output: Path | None = None

    def left_s(self) -> float:
        """Until the time is up."""
        return self.deadline - time.monotonic()

    def expected_s(self, group: Group) -> float:
        """How long it is likely to take."""
        known = self.results.setdefault("seconds", {})
        if group.key in known:
            return 1.2 * float(known[group.key])
        alike = [float(seconds) for key, seconds in known.items() if group.is_like(key)]
        return 1.3 * max(alike) if alike else group.guess_s

    def took(self, group: Group, seconds: float) -> None:
        """Remembers the longest."""
        known = self.results.setdefault("seconds", {})
        known[group.key] = round(max(seconds, known.get(group.key, 0.0)), 1)

    def row(self, cell: Cell) -> dict[str, Any]:
        """What is known of it; empty where nothing is."""
        found: dict[str, Any] = self.results["nets"]
        for key in cell.path:
            found = found.get(key, {})
        return found

    def keep(self, cell: Cell, row: dict[str, Any]) -> None:
        """Puts it where it belongs, and writes everything."""
        place = self.results["nets"]
        for key in cell.path[:-1]:
            place = place.setdefault(key, {})
        place[cell.path[-1]] = row
        write_results(self.results, self.output)

    def state(self, group: Group) -> str:
        """measured, open, or tried: it failed or was left out, or the engine or its floor was."""
        rows = [self.row(cell) for cell in group.cells]
        if group.kind == SLOW:
            rows = [row.get("slow", {}) for row in rows]
        if all({PLUGIN, FLOOR} <= set(row.get("us", {})) for row in rows):
            return "measured"
        return "tried" if all(row for row in rows) else "open"


def error_of(y: Array, expected: Array) -> float:
    """Relative L2; infinite for a NaN."""
    exact = expected.astype(np.float64)
    error = float(np.linalg.norm(y.astype(np.float64) - exact) / np.linalg.norm(exact))
    return error if np.isfinite(error) else float("inf")


def expected_of(module: torch.nn.Module, x: Array) -> Array:
    """By torch in float32, on the GPU where there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.no_grad():
        return module.to(device, torch.float32)(torch.from_numpy(x).to(device)).cpu().numpy()


def measure_group(bench: Bench, group: Group) -> None:
    """Its engines, then each batch, kept as it comes."""
    engines: dict[str, Opened] = {}
    left_out: dict[str, str] = {}
    try:
        for form in (*FORMS, *([BODY] if group.kind == SLOW else [])):
            try:
                engines[form] = _open(bench, group, form)
            except FAILURES as error:
                left_out[form] = reason_of(error)
                print(f"  {form} is left out: {left_out[form]}", flush=True)
        for cell in group.cells:
            row: dict[str, Any] = {"engines": {form: engine.facts for form, engine in engines.items()}}
            try:
                row |= measure_cell(bench, group, cell, engines)
            except FAILURES as error:
                row["left_out"] = {"all": reason_of(error)}
            if left_out:
                row["left_out"] = {**row.get("left_out", {}), **left_out}
            bench.keep(cell, row if group.kind != SLOW else {**bench.row(cell), "slow": row})
            print(report(cell, row), flush=True)
    finally:
        for engine in engines.values():
            engine.close()


def measure_cell(bench: Bench, group: Group, cell: Cell, engines: Mapping[str, Opened]) -> dict[str, Any]:
    """One batch: every engine held against torch, then all that is there in turns."""
    net = NETS[cell.net]
    module = net.make()  # anew: torch's rows change its type
    x = bench.files.samples(net, cell.batch)
    expected = expected_of(module, x)
    facts: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for form, engine in engines.items():
        facts[form] = dict(engine.facts)
        if form != FLOOR:
            facts[form] |= _parity(bench, engine, net, x, expected, module, cell)
            if not facts[form]["relative_l2"] <= AGREES[cell.precision]:
                limit = AGREES[cell.precision]
                wrong[form] = f"relative L2 to torch is {facts[form]['relative_l2']:.2e}, at most {limit:.1e} expected"
    if wrong:
        return {"engines": facts, "failed": "; ".join(f"{form}: {why}" for form, why in wrong.items())}
    makers: dict[str, Make] = {form: lambda engine=engine: engine.timed(x) for form, engine in engines.items()}
    if group.kind == STATIC and not net.fused:
        model = bench.files.model(net, PLUGIN, cell.precision)
        makers |= bench.machine.beside(module, x, cell.precision, model)
    timed, left_out = all_made(makers)
    if not timed:
        return {"engines": facts, "left_out": left_out}
    row = _row_of(bench, facts, timed, left_out)
    compiled = bench.machine.compiled(module, x, cell.precision) if group.kind == SLOW else {}
    if not compiled:
        return row
    # No clock ends a compiler, so what is there is kept before it begins.
    ended = {COMPILED: "the time was up before it was compiled"}
    early = {**row, "left_out": {**left_out, **ended}}
    bench.keep(cell, {**bench.row(cell), "slow": early})
    if bench.left_s() < SECONDS_TO_COMPILE:
        return early
    more, why_not = all_made(compiled)
    left_out |= why_not
    return _row_of(bench, facts, {**timed, **more}, left_out) if more else {**row, "left_out": left_out}


def _row_of(
    bench: Bench, facts: Mapping[str, Any], timed: Mapping[str, Timed], left_out: Mapping[str, str]
) -> dict[str, Any]:
    """All that can be timed, in turns."""
    times = in_turns(timed, bench.rounds)
    row: dict[str, Any] = {"engines": facts, "us": summary(times)}
    if FLOOR in times:
        row["ratio_to_floor"] = {key: round(float(np.median(own / times[FLOOR])), 4) for key, own in times.items()}
    return {**row, "left_out": dict(left_out)} if left_out else row


def _open(bench: Bench, group: Group, form: str) -> Opened:
    net = NETS[group.net]
    source = bench.files.model(net, PLUGIN if form == BODY else form, group.precision)
    if group.kind != DYNAMIC:
        (batch,) = group.batches
        return bench.machine.open(at_batch(source, batch, bench.files.scratch / "static.onnx"), form, {})
    name = onnx.load(source, load_external_data=False).graph.input[0].name
    shapes = {name: ((1, *net.image), (SLOW_BATCH, *net.image), (LARGEST_BATCH, *net.image))}
    return bench.machine.open(source, form, shapes)


def _parity(
    bench: Bench, engine: Opened, net: Net, x: Array, expected: Array, module: torch.nn.Module, cell: Cell
) -> dict[str, float]:
    y = engine.run(x)
    found = {
        "relative_l2": error_of(y, expected),
        "top1_agreement": float((y.argmax(1) == expected.argmax(1)).mean()),
    }
    if net.name == "digits" and cell.shapes == DYNAMIC and cell.batch == LARGEST_BATCH:
        images = bench.files.samples(net, COMPARED_IMAGES)
        parts = np.array_split(images, -(-COMPARED_IMAGES // LARGEST_BATCH))
        classes = np.concatenate([engine.run(part).argmax(1) for part in parts])
        found["images"] = COMPARED_IMAGES
        found["top1_agreement"] = float((classes == expected_of(module, images).argmax(1)).mean())
    return found


def measure(bench: Bench, wanted: Sequence[Group]) -> bool:
    """One after the other, as far as the time goes, what was never tried first; whether all were begun."""
    states = {group: bench.state(group) for group in wanted}
    order = [group for state in ("open", "tried") for group in wanted if states[group] == state]
    complete = True
    begun = 0
    for group in order:
        if bench.left_s() <= 0 or (begun and bench.left_s() < bench.expected_s(group)):
            complete = False  # a shorter one may still fit
            continue
        start = time.monotonic()
        begun += 1
        try:
            measure_group(bench, group)
        except TimeUpError as error:
            print(f"the time was up during {group.key}: {error}", flush=True)
            return False
        bench.took(group, time.monotonic() - start)
    return complete


def report(cell: Cell, row: Mapping[str, Any]) -> str:
    """One measurement's table."""
    lines = [f"{cell.net}, {cell.precision}, {cell.shapes}, batch {cell.batch}"]
    if "failed" in row:
        lines.append(f"  failed: {row['failed']}")
    lines += [f"  left out: {name}: {why}" for name, why in row.get("left_out", {}).items()]
    ratios = row.get("ratio_to_floor", {})
    for key, values in row.get("us", {}).items():
        ratio = f"{ratios[key]:6.3f}" if key in ratios else ""
        lines.append(f"  {key:28s} {values['median_us']:10.1f} µs  {ratio}")
    plugin = row.get("engines", {}).get(PLUGIN, {})
    if "relative_l2" in plugin:
        lines.append(
            f"  reformats beside plugins: {len(plugin['reformats_beside_plugins'])} of {plugin['plugins']} plugins; "
            f"relative L2 {plugin['relative_l2']:.1e}, top-1 agreement {plugin['top1_agreement']:.2%}"
        )
    return "\n".join(lines)


# --- Command line ---------------------------------------------------------------------------------------------------


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--plugins", type=Path, metavar="FOLDER", help="of the plugin; the package's own if none is named"
    )
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    parser.add_argument("--files", type=Path, metavar="FOLDER", help="of the ONNX files; default: beside the output")
    parser.add_argument("--make-files", action="store_true", help="make the ONNX files, and nothing else")
    parser.add_argument(
        "--timings", type=Path, metavar="FILE", help="TensorRT's timing cache; default: beside the output"
    )
    parser.add_argument("--goals", action="store_true", help="only what goals are set for")
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(USUAL))
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--budget", type=float, default=540, metavar="SECONDS", help="for all of it (default: 540)")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--rehearse", action="store_true", help="ONNX Runtime on the CPU in the place of engines")
    return parser.parse_args(arguments)


def plugin_or_reason(options: argparse.Namespace) -> Path | str:
    """The plugin library; or why nothing can be measured."""
    if not torch.cuda.is_available():
        return "no GPU"
    from sn_deploy.runtime.trt.library import need_gpu, tensorrt, version_of

    try:
        trt = tensorrt()
        need_gpu("building an engine")
    except SnDeployError as error:
        return f"no TensorRT ({error})"
    name = f"libsn_deploy_trt{version_of(trt)[0]}.so"
    library = options.plugins / name if options.plugins else find_library(name)
    if library is None or not library.is_file():
        return f"no plugin for TensorRT {version_of(trt)[0]} ({library or 'it was not built'})"
    return Path(library)


def earlier(output: Path | None, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What an earlier call with the same output measured on the same GPU and versions."""
    if output is None or not output.is_file():
        return {}
    known = json.loads(output.read_text(encoding="utf-8"))
    same = ("gpu_name", "tensorrt", "torch", "rehearsal")
    if any(known["machine"].get(key) != facts.get(key) for key in same):
        return {}
    return {"nets": known.get("nets", {}), "seconds": known.get("seconds", {})}


def make_files(options: argparse.Namespace, files: Path) -> int:
    """The nets' files as they are carried; the exit code."""
    with tempfile.TemporaryDirectory() as name:
        for net in options.nets:
            pack(NETS[net], options.precisions, files, Path(name), COMPARED_IMAGES)
    sizes = {path.name: path.stat().st_size for path in sorted(files.iterdir())}
    for path, size in sizes.items():
        print(f"{size / 1e6:8.2f} MB  {path}")
    print(f"{sum(sizes.values()) / 1e6:8.2f} MB")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    options = parse(arguments)
    beside = options.output.parent if options.output else Path("build")
    files = options.files or beside / "gpu-nets"
    wanted = groups(options.nets, options.precisions, options.batches)
    wanted = [group for group in wanted if is_goal(group)] if options.goals else wanted
    if options.make_files:
        return make_files(options, files)
    found: Path | str = Path() if options.rehearse else plugin_or_reason(options)
    if isinstance(found, str):
        print(f"{found}: not measured", file=sys.stderr)
        return 2
    trial = None
    if any(NETS[net].fused for net in options.nets) and not options.rehearse:
        trial = found.with_name(found.name.replace("sn_deploy_trt", "sn_deploy_convolution_trt"))
        if not trial.is_file():
            print(f"no trial of fused convolutions ({trial}): not measured", file=sys.stderr)
            return 2
    if options.output is not None:
        check_writable(options.output)
    deadline = time.monotonic() + options.budget
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        machine: Machine
        if options.rehearse:
            machine = RehearsalMachine(folder)
            torch.set_num_threads(1)
            print("A rehearsal: the times mean nothing.")
        else:
            timings = options.timings or beside / "timings"
            take_known(timings, str(_tensorrt_version(False)), torch.cuda.get_device_properties(0).name)
            machine = TensorRtMachine(
                found,
                compiled=not options.no_compile,
                folder=folder,
                timings=timings.resolve(),
                deadline=deadline + GRACE_S,
                trial=trial,
            )
        facts = {**machine.clock.facts(), "tensorrt": _tensorrt_version(options.rehearse)}
        facts["rehearsal"] = options.rehearse
        results = {"command": command_line(), "machine": facts, "float_of": FLOAT_OF, "nets": {}}
        results |= earlier(options.output, facts)
        bench = Bench(machine, Files(files, folder), options.rounds, deadline, results, options.output)
        bench.results["complete"] = measure(bench, wanted)
    write_results(bench.results, options.output)
    return _verdict(bench, wanted)


def take_known(timings: Path, tensorrt: str, gpu: str, known: Path = KNOWN_TIMINGS) -> None:
    """Begins with the builder's timings of an earlier run on this kind of GPU, where there are none.

    An engine of ResNet-50 then takes 12 s in place of 40.
    """
    source = known / f"{tensorrt}-{gpu.replace(' ', '_')}"
    if source.is_file() and not timings.exists():
        timings.parent.mkdir(parents=True, exist_ok=True)
        timings.write_bytes(source.read_bytes())


def _verdict(bench: Bench, wanted: Sequence[Group]) -> int:
    """The exit code, and what it means."""
    cells = [cell for group in wanted for cell in group.cells]
    rows = [(cell, row) for cell in dict.fromkeys(cells) for row in (bench.row(cell), bench.row(cell).get("slow", {}))]
    failed = [(cell, row["failed"]) for cell, row in rows if "failed" in row]
    if failed:
        (cell, why), *_ = failed
        count = f"{len(failed)} of {len(set(cells))}"
        print(f"{count} don't agree with torch, {'/'.join(cell.path)} first: {why}", file=sys.stderr)
        return 1
    states = [bench.state(group) for group in wanted]
    if not bench.results["complete"]:
        print(f"to be continued: {states.count('open')} of {len(states)} groups are open: call again", file=sys.stderr)
        return UNFINISHED
    if "measured" not in states:
        print("nothing could be measured", file=sys.stderr)
        return 1
    left = [group for group, state in zip(wanted, states, strict=True) if state == "tried"]
    why = f", {len(left)} left out, {_why_left_out(bench, left[0])}" if left else ""
    print(f"{states.count('measured')} of {len(states)} groups measured{why}")
    return 0


def _why_left_out(bench: Bench, group: Group) -> str:
    for cell in group.cells:
        row = bench.row(cell)
        for form, why in (row.get("slow", {}) if group.kind == SLOW else row).get("left_out", {}).items():
            if form in ("all", *FORMS):
                return f"{'/'.join(cell.path)} first: {form}: {why}"
    return group.key


def _tensorrt_version(rehearsal: bool) -> str | None:
    if rehearsal:
        return None
    from sn_deploy.runtime.trt.library import tensorrt

    return str(tensorrt().__version__)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SnDeployError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
