"""What a command says of the file that it wrote, held against its source."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from sn_deploy.compare.held_outputs import difference_text
from sn_deploy.console import Console
from sn_deploy.summary import Summary

if TYPE_CHECKING:
    from sn_deploy.fuse.whole import WholeFile


def add_whole(summary: Summary, whole: WholeFile) -> None:
    """How near the file is to its source, and the outputs that aren't compared."""
    summary.add("whole file", _whole_text(whole))
    for name, why in whole.left_out.items():
        summary.add("left out", f"output {name}: {why}")


def print_by_hand(console: Console, whole: WholeFile, path: Path, source: Path | None) -> None:
    """How to compare what couldn't be run; nothing where it was, or where the source isn't known."""
    if whole.why_not is not None and source is not None:
        # A line of its own, which a terminal doesn't fold where it is pasted.
        console.print(_by_hand_text(whole, path, source), style="yellow", soft_wrap=True)


def _whole_text(whole: WholeFile) -> str:
    if whole.why_not is not None:
        return f"not compared with its source, as {whole.why_not}"
    figures = difference_text(whole.rel_l2, whole.tolerance, whole.changed)
    given = ", ".join(f"{name} {shape}" for name, shape in whole.inputs.items())
    larger = "" if whole.why_larger is None else f", as {whole.why_larger}"
    how = "in float32 and " if whole.in_float32 else ""
    return f"{figures} from its source, both {how}run on {given or 'no input'}{larger}"


def _by_hand_text(whole: WholeFile, path: Path, source: Path) -> str:
    """What to do about files that weren't compared: the same command again with other input, or another command."""
    from sn_deploy.compare.file_pair import CANT_RUN

    is_source = source.exists() and source.samefile(path)
    inputs = [word for text in whole.other_inputs for word in ("--input", text)]
    if inputs and not is_source:
        values = any(text.endswith(".npy") for text in inputs)
        what = "usual values, saved by numpy.save" if values else "a size that the network takes"
        return f"compare them on {what}, by adding: {shlex.join(inputs)}"
    if CANT_RUN in (whole.why_not or ""):
        return "compare them on data where they run: what ONNX Runtime's CPU provider lacks, a GPU's may have"
    old = Path("COPY_OF_THE_OLD_ONE.onnx") if is_source else source
    return f"compare them by hand: {shlex.join(['sn-deploy', 'diff', str(old), str(path), *inputs])}"
