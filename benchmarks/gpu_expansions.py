"""What the SN layers behind ResNet-50's expanding 1 x 1 convolutions would take without reading what these wrote.

    python benchmarks/gpu_expansions.py --library build/gpu/cuda/libsn_deploy_cuda.so \\
        [--trial build/gpu/cuda/libsn_deploy_convolution.so] [--output gpu_expansions.json]

Their X and Y are 3.6 of the 5.7 GB that all 53 layers move at batch 128 in fp16. Two ways to leave out what the
convolution wrote, and the layer reads again, beside the convolution and the best tactic of the layer behind it
([decision 16](../docs/decisions/0016-kernels-on-a-gpu.md)):

- One kernel for both (plugins/cuda/convolution, a trial), which keeps the convolution's output in registers or computes
  it twice; with ``--trial``. Each of its tactics is held against torch's layer first.
- The statistics from the second moments of the convolution's input (`second_moments.py`), so that one matrix product
  can write Y. As torch's libraries do the products of which it would be made. What that leaves out: the sums of x,
  which come with its moments; the shift and the ReLU, which come with the product; and the scale's way into it.

In fp16, channels last, from CUDA graphs, in turns. The convolution and the layer's fastest tactics one behind the
other, too: the layer finds in the cache what the convolution has just written. Convolutions with a stride are timed as
if their input had been gathered. The exit code is 1 where a tactic of the trial is wrong, or none runs of a depth that
it has kernels for; without a GPU it is 2.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from fused_convolutions import DEPTHS
from gpu_layers import Layer, OnDevice
from gpu_tactics import launchers, make_parser, some_sets, stream_of, times_us
from gpu_timing import FAILURES, Clock, GpuClock, ended_if_it_hangs, reason_of
from interleaved import command_line, write_results
from second_moments import Norm, affine, second_moments, weights_of_samples
from trial_convolution import Convolution, ConvolutionKernels, ConvolutionTactic

from sn_deploy.errors import SnDeployError
from sn_deploy.models import resnetv1sn50
from sn_deploy.runtime.cuda import Addresses, CudaKernels

CONVOLUTION, FLOOR = "convolution", "convolution and residual"
MOMENTS, AFFINE, PRODUCT = "second moments", "affine maps", "product of each sample"
PRODUCTS = (MOMENTS, AFFINE, PRODUCT)
TACTIC, PAIR, ONE_KERNEL = "tactic: ", "convolution, then ", "one kernel: "
PAIRS = 3  # of the layer's tactics, the fastest, that are timed behind the convolution
# Relative L2 to torch's layer behind a convolution that rounds its output to half, as the trial doesn't; and of one
# element, against 1 and itself: where there are 10^8, the former doesn't show it.
MOST_APART = 2e-3
MOST_APART_OF_ONE = 5e-2
RUNS = 5  # of each of the trial's tactics, which have to give the same bits: a race wouldn't


@dataclass(frozen=True)
class Expansion:
    """A 1 x 1 convolution that makes more channels, and the SN layer behind it."""

    in_channels: int
    layer: Layer

    @property
    def name(self) -> str:
        """For tables: "64 to 256 x 56 x 56, add relu"."""
        return f"{self.in_channels} to {self.layer.name}"


def resnet50_expansions(size: int = 224) -> list[Expansion]:
    """The net's, in the order in which they run, with images of ``size`` x ``size``."""
    with torch.device("meta"):
        net = resnetv1sn50().eval()
    found = []

    def record(module: torch.nn.Conv2d, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        is_shortcut = module in shortcuts
        layer = Layer(*output.shape[1:], epilogue="none" if is_shortcut else "add relu")
        found.append(Expansion(module.in_channels, layer))

    convolutions = {name: module for name, module in net.named_modules() if isinstance(module, torch.nn.Conv2d)}
    shortcuts = {module for name, module in convolutions.items() if "downsample" in name}
    for module in convolutions.values():
        if module.kernel_size == (1, 1) and module.out_channels > module.in_channels:
            module.register_forward_hook(record)
    net(torch.empty(1, 3, size, size, device="meta"))
    return found


def time_expansion(
    kernels: CudaKernels, clock: Clock, expansion: Expansion, batch: int, trial: ConvolutionKernels | None = None
) -> dict[str, Any]:
    """µs of each product and tactic, and how far the products' Y is from the layer's, as a relative L2.

    In "failed" are tactics of the trial that don't run, or are further than `MOST_APART` from the layer, and the
    products by second moments where torch can't do them.

    Raises:
        SnDeployError: something else of it doesn't run.
    """
    layer = expansion.layer
    tensors = some_sets(layer, batch, clock, "channels last")
    sets = len(tensors.x)
    positions = layer.height * layer.width
    rows = (batch * positions, layer.channels)
    y, convolved = ([image.permute(0, 2, 3, 1).view(rows) for image in own] for own in (tensors.y, tensors.x))
    residual = [image.permute(0, 2, 3, 1).view(rows) for image in tensors.residual]
    half = {"device": clock.device, "dtype": torch.float16}
    x = [torch.randn(batch, positions, expansion.in_channels, **half).relu_() for _ in range(sets)]
    w = torch.randn(layer.channels, expansion.in_channels, **half) / expansion.in_channels**0.5
    flat = [own.view(-1, expansion.in_channels) for own in x]

    def convolution(index: int) -> None:
        torch.mm(flat[index % sets], w.mT, out=convolved[index % sets])

    def floor(index: int) -> None:
        own = index % sets
        if residual:
            torch.addmm(residual[own], flat[own], w.mT, out=y[own])
        else:
            torch.mm(flat[own], w.mT, out=y[own])

    convolution(0)
    wanted = _wanted(tensors)
    calls: dict[str, Callable[[int], object]] = {CONVOLUTION: convolution, FLOOR: floor}
    row: dict[str, Any] = {}
    failed: dict[str, str] = {}
    products: dict[str, Callable[[int], object]] = {}
    try:  # without them, the rest is to be known as well
        products, of_products = _products(Norm.of(tensors.module), x, w, residual, y)
        row["relative_l2"] = _relative_l2(of_products, wanted)
        del of_products
    except FAILURES as error:
        failed[PRODUCT] = reason_of(error)
    tactics = {TACTIC + name: call for name, call in launchers(kernels, tensors, clock).items()}
    where = f"{batch} x {expansion.name}"
    of_trial = _one_kernel(trial, tensors, x, w, clock) if trial is not None else {}
    for name, call in of_trial.items():
        with ended_if_it_hangs(f"{where}: {ONE_KERNEL}{name}", clock.patience_s):
            why = _why_wrong(name, call, y[0], wanted)
        if why is None:
            tactics[ONE_KERNEL + name] = call
        else:
            failed[ONE_KERNEL + name] = why
    if trial is not None and not of_trial and expansion.in_channels in DEPTHS:
        failed[ONE_KERNEL + "any"] = f"no tactic has room; CUDA's last error: {trial.last_error()}"
    us, not_timed = times_us(clock, {**calls, **products, **tactics}, needed=calls, where=where)
    fastest = sorted((name for name in us if name.startswith(TACTIC)), key=us.__getitem__)[:PAIRS]
    pairs = {PAIR + name.removeprefix(TACTIC): _one_by_one(convolution, tactics[name]) for name in fastest}
    of_pairs, pairs_not_timed = times_us(clock, pairs, needed=(), where=where)
    failed |= not_timed | pairs_not_timed
    row["us"] = us | of_pairs
    return {**row, "failed": failed} if failed else row


def _products(
    norm: Norm, x: Sequence[torch.Tensor], w: torch.Tensor, residual: Sequence[torch.Tensor], y: Sequence[torch.Tensor]
) -> tuple[dict[str, Callable[[int], object]], torch.Tensor]:
    """What the layer by second moments is made of, and what it gives for the first set, (N, HW, C) in float32."""
    batch, positions, _ = x[0].shape
    wide = w.float()
    moments, x_mean = second_moments(x[0]), x[0].float().mean(1)
    scale, shift = affine(x_mean, moments, positions, wide, norm)
    own_w = weights_of_samples(w, scale)
    shaped = [own.view(batch, positions, -1) for own in y]

    def product(index: int) -> None:
        own = index % len(x)
        if residual:
            torch.baddbmm(residual[own].view(shaped[own].shape), x[own], own_w, out=shaped[own])
        else:
            torch.bmm(x[own], own_w, out=shaped[own])

    product(0)
    first = shaped[0].float() + shift[:, None, :]
    calls: dict[str, Callable[[int], object]] = {
        MOMENTS: lambda index: second_moments(x[index % len(x)]),
        AFFINE: lambda index: affine(x_mean, moments, positions, wide, norm),
        PRODUCT: product,
    }
    return calls, first.relu_() if residual else first


def _wanted(tensors: OnDevice) -> torch.Tensor:
    """What torch's layer gives behind the convolution's output in the first set, (N, H, W, C) in float32."""
    with torch.no_grad():
        y = tensors.torch_module()(tensors.x[0].float(), tensors.residual[0].float() if tensors.residual else None)
    return y.permute(0, 2, 3, 1)


def _relative_l2(y: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((y.float().view(wanted.shape) - wanted).norm() / wanted.norm())


def _one_kernel(
    trial: ConvolutionKernels, tensors: OnDevice, x: Sequence[torch.Tensor], w: torch.Tensor, clock: Clock
) -> dict[str, Callable[[int], object]]:
    """Name of each of the trial's tactics -> what launches it on one of the sets."""
    layer = tensors.layer
    convolution = Convolution(w.shape[1], 1, layer.height, layer.width)
    parameters = [tensor.data_ptr() for tensor in tensors.parameters]
    addresses = [
        Addresses(own.data_ptr(), *parameters, y=y.data_ptr(), residual=residual)
        for own, y, residual in zip(x, tensors.y, tensors.residual_addresses(), strict=True)
    ]

    def launcher(tactic: ConvolutionTactic) -> Callable[[int], None]:
        def launch(index: int) -> None:
            own = addresses[index % len(addresses)]
            trial.launch_convolution(tensors.problem, own, w.data_ptr(), convolution, tactic, stream=stream_of(clock))

        return launch

    return {tactic.name: launcher(tactic) for tactic in trial.convolution_tactics(tensors.problem, convolution)}


def _one_by_one(first: Callable[[int], object], second: Callable[[int], object]) -> Callable[[int], None]:
    def both(index: int) -> None:
        first(index)
        second(index)

    return both


def _why_wrong(name: str, call: Callable[[int], object], y: torch.Tensor, wanted: torch.Tensor) -> str | None:
    """None for a tactic that gives what the layer gives, and the same bits in each run.

    Raises:
        SnDeployError: it broke the device, and nothing runs from now on.
    """
    y.fill_(float("nan"))
    try:
        call(0)
        found = y.clone()
        for _ in range(RUNS - 1):
            y.fill_(float("nan"))
            call(0)
            if not torch.equal(y.view(torch.int16), found.view(torch.int16)):
                return "other bits in another run"
        apart = _relative_l2(found, wanted)
        of_one = float(((found.float().view(wanted.shape) - wanted).abs() / (1 + wanted.abs())).max())
    except SnDeployError as error:
        return str(error)
    except RuntimeError as error:  # torch's, of what ran before it noticed
        raise SnDeployError(reason_of(error), where=f"the trial, {name}") from error
    if not apart <= MOST_APART:
        return f"relative L2 {apart:.1e} to the layer, above {MOST_APART:.0e}"
    if not of_one <= MOST_APART_OF_ONE:
        return f"an element is {of_one:.1e} from the layer's, above {MOST_APART_OF_ONE:.0e}"
    return None


def compared(us: dict[str, float]) -> dict[str, float]:
    """µs of a convolution with its SN layer: as it is, in one kernel, by the products, and without SN.

    The second and the third are only there where they were timed.
    """
    layer = min(value for name, value in us.items() if name.startswith(PAIR))
    one_kernel = [value for name, value in us.items() if name.startswith(ONE_KERNEL)]
    return {
        "as it is": layer,
        **({"one kernel": min(one_kernel)} if one_kernel else {}),
        "the better": min([layer, *one_kernel]),
        **({"by products": sum(us[name] for name in PRODUCTS)} if us.keys() >= set(PRODUCTS) else {}),
        "floor": us[FLOOR],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = make_parser(__doc__, [128, 32, 8, 1])
    parser.add_argument("--trial", type=Path, help="libsn_deploy_convolution.so; without it, there is no one kernel")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("no GPU: not measured", file=sys.stderr)
        return 2
    kernels, clock = CudaKernels(options.library), GpuClock()
    trial = ConvolutionKernels(options.trial) if options.trial is not None else None
    torch.backends.cuda.matmul.allow_tf32 = True  # of the affine maps: a kernel would have the half types' speed there
    expansions = dict(Counter(resnet50_expansions()))
    results: dict[str, Any] = {"command": command_line(), "machine": clock.facts(), "batches": {}}
    wrong = 0
    for batch in options.batches:
        rows = {expansion.name: time_expansion(kernels, clock, expansion, batch, trial) for expansion in expansions}
        totals: Counter[str] = Counter()
        complete = {"as it is", "the better", "by products", "floor"}  # timed for all
        for expansion, count in expansions.items():
            row = rows[expansion.name]
            for name, why in row.get("failed", {}).items():
                wrong += name.startswith(ONE_KERNEL)
                print(f"batch {batch:3d}  {expansion.name}: {name} failed: {why}", flush=True)
            figures = compared(row["us"])
            totals.update({name: count * value for name, value in figures.items() if name != "one kernel"})
            complete &= figures.keys()
            parts = "  ".join(f"{name} {value:.1f}" for name, value in figures.items())
            of_these = ", ".join(f"{name} {row['us'][name]:.1f}" for name in PRODUCTS if name in row["us"])
            error = f"; relative L2 {row['relative_l2']:.1e}" if "relative_l2" in row else ""
            print(f"batch {batch:3d}  {count} x {expansion.name:34s} {parts} µs ({of_these}){error}", flush=True)
        total = {name: round(value, 1) for name, value in totals.items() if name in complete}
        results["batches"][str(batch)] = {"total_us": total, "layers": rows}
        print(f"batch {batch:3d}  all of them: {results['batches'][str(batch)]['total_us']}", flush=True)
        write_results(results, options.output)
    if wrong:
        print(f"{wrong} tactics of the trial failed", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SnDeployError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)  # 2 is for what is missing
