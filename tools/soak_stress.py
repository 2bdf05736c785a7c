"""The custom-op library in the real ONNX Runtime under a sanitizer: many threads, several sessions, mixed shapes.

    python -m tools.soak_stress BUILD SECONDS [--threads 8] [--sessions 3]

BUILD is a build folder of ``plugins/`` with SN_SANITIZE of address,undefined or thread. Its program
(plugins/onnxruntime/tests/stress.cpp) runs the operators of every type, rank and layout, and a whole net as exported
and as optimised, and compares each result, refusals among them, with that of the same input alone.

ONNX Runtime isn't instrumented, nor is the dynamic loader. So ThreadSanitizer can't see what orders their own accesses
to their own memory, and reports them. No suppression is given to it, for one that names ONNX Runtime would hide all
that it calls; instead each report is read: it is ours where one of the two accesses was made in our library or in the
program, and theirs where both, or the only one that is known, were made in their own code. Ours fail; the others are
counted.

Exit code 0: nothing of ours was reported and no result was wrong. 1: something was. 2: it can't be run.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import onnx

from sn_deploy.graph.op import OP_TYPES
from tests.cases import DTYPES, make_case
from tests.native.models import chain_model, operator_model
from tests.optimise.test_operator import blocked_model

CHANNELS: Final = 20  # not a whole number of blocks
WEIGHTS: Final = (0.5, 0.3, 0.2)
PROGRAM: Final = "onnxruntime/tests/stress_onnxruntime"
LIBRARY: Final = "onnxruntime/libsn_deploy_ort.so"
# What an access may be made in; anything else is a sanitizer's runtime or a standard library on the way there.
OURS: Final = ("libsn_deploy_ort.so", "stress_onnxruntime")
# The loader makes a thread's own memory (TLS) where it is first used, and frees it where another thread gets its stack.
THEIRS: Final = ("libonnxruntime.so", "ld-linux")
SETTINGS: Final = {"TSAN_OPTIONS": "exitcode=0:history_size=7", "ASAN_OPTIONS": "detect_stack_use_after_return=1"}
_ACCESS: Final = re.compile(r"^  (?:Previous )?(?:atomic )?(?:write|read) of size|^    #0 ", re.IGNORECASE)
_FRAME: Final = re.compile(r"^    #\d+ .*\(([^()+]+)\+0x[0-9a-f]+\)\s*$")


def write_models(folder: Path) -> list[Path]:
    """A file for every operator, type, rank and layout, and a net."""
    models: dict[str, onnx.ModelProto] = {}
    for op in OP_TYPES:
        for dtype in DTYPES:
            case = make_case((1, CHANNELS, 3, 3), dtype, mean_weights=WEIGHTS, var_weights=WEIGHTS, ddof=1, seed=1)
            models[f"{op}-{dtype}"] = operator_model(op, case.folded, [None, CHANNELS, None, None], dtype)
        case = make_case((1, CHANNELS, 3, 3), "float32", mean_weights=WEIGHTS, var_weights=WEIGHTS, ddof=1, seed=1)
        for block in (8, 16):
            model = blocked_model(op, case, block)
            for value in model.graph.input:
                value.type.tensor_type.shape.dim[1].dim_value = -(-CHANNELS // block) * block
            models[f"{op}-blocks-of-{block}"] = model
    for rank in (2, 3, 5):
        weights = WEIGHTS if rank > 2 else (0.0, 0.6, 0.4)
        shape = (1, CHANNELS, *[3] * (rank - 2))
        case = make_case(shape, "float32", mean_weights=weights, var_weights=weights, ddof=1, seed=1)
        free = [None, CHANNELS, *[None] * (rank - 2)]
        models[f"rank-{rank}"] = operator_model("SwitchNormRelu", case.folded, free, "float32")
    case = make_case((1, CHANNELS, 3, 3), "float32", mean_weights=WEIGHTS, var_weights=WEIGHTS, ddof=1, seed=1)
    models["chain"] = chain_model(case.folded, ["batch", CHANNELS, "height", "width"], keep=False)
    paths = []
    for name, model in models.items():
        paths.append(folder / f"{name}.onnx")
        onnx.save(model, paths[-1])
    return paths + write_net(folder)


def write_net(folder: Path) -> list[Path]:
    """The digit classifier as exported, and, where ONNX Runtime has blocks on this processor, as optimised."""
    import torch

    from sn_deploy.errors import SnDeployError
    from sn_deploy.models.digits import load_pretrained
    from sn_deploy.onnx_export import export
    from sn_deploy.optimise import optimise

    exported, optimised = folder / "net.onnx", folder / "net-optimised.onnx"
    export(load_pretrained(), torch.zeros(1, 1, 8, 8), exported, dynamic="batch")
    try:
        optimise(exported, optimised)
    except SnDeployError as error:
        print(f"the optimised net is left out: {error}")
        return [exported]
    return [exported, optimised]


def onnxruntime_library() -> Path | None:
    """ONNX Runtime's C library in the installed wheel."""
    import onnxruntime

    return next((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"), None)


def reports_of(text: str) -> list[str]:
    """ThreadSanitizer's reports in its output."""
    return [part for part in text.split("==================\n") if "WARNING: ThreadSanitizer" in part]


def is_ours(report: str) -> bool:
    """Whether an access of the report was made in our code (see the top of the file).

    A stack begins with the sanitizer's and the standard library's own frames; the first other one made the access. A
    report that can't be read is ours.
    """
    made_in = list(_first_modules(report))
    known = [name for name in made_in if name is not None]
    return not known or any(name.startswith(OURS) or not name.startswith(THEIRS) for name in known)


def _first_modules(report: str) -> Iterator[str | None]:
    """The module of each access of a report; None where its stack is lost.

    Other stacks (where a thread or a block of memory came from) say nothing of who made the access.
    """
    for section in re.split(r"\n\s*\n", report):
        lines = section.splitlines()
        title = next((line for line in lines if not line.startswith(("    #", "WARNING"))), "")
        accesses = any(_ACCESS.match(line) for line in lines[:2])
        if not accesses or re.match(r"  (Mutex|Thread|Location|As if)", title):
            continue
        frames = [Path(found.group(1)).name for line in lines if (found := _FRAME.match(line))]
        yield next((name for name in frames if name.startswith((*OURS, *THEIRS))), frames[-1] if frames else None)


def run(build: Path, seconds: float, threads: int, sessions: int) -> int:
    """Runs the program; returns the exit code."""
    runtime = onnxruntime_library()
    program = build / PROGRAM
    if runtime is None or not program.is_file():
        absent = "the ONNX Runtime that is installed has no C library" if runtime is None else f"{program} isn't built"
        print(absent, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as name:
        models = write_models(Path(name))
        done = subprocess.run(
            [program, runtime, build / LIBRARY, str(threads), str(sessions), str(seconds), *models],
            env={**os.environ, **SETTINGS},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    reports = reports_of(done.stdout)
    ours = [report for report in reports if is_ours(report)]
    if ours or done.returncode:
        print("\n".join(ours) or done.stdout)
        print(f"{len(ours)} reports of our code, exit code {done.returncode}")
        return done.returncode or 1
    theirs = f"; {len(reports)} reports of ONNX Runtime's and the loader's own accesses" if reports else ""
    print(next(line for line in done.stdout.splitlines() if " runs by " in line) + theirs)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--sessions", type=int, default=3, help="of each file")
    options = parser.parse_args(arguments)
    return run(options.build.resolve(), options.seconds, options.threads, options.sessions)


if __name__ == "__main__":
    sys.exit(main())
