"""Small files whose If decides by data: of any input one branch alone runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser

BY_DATA = "m = ReduceSum <keepdims = 0> (x)  zero = Constant <value_float = 0.0> ()  c = Greater (m, zero)"
BY_SHAPE = "m = Shape <start = 1> (x)  eight = Constant <value_ints = [8]> ()  c = Equal (m, eight)"


def choosing(path: Path, then: float = 2.0, otherwise: float = 3.0, condition: str = BY_DATA) -> Path:
    """A matrix product, multiplied by one number where the input's sum is positive, else by another."""
    model = onnx.parser.parse_model(
        f"""<ir_version: 9, opset_import: ["": 17]> g (float[2, 8] x) => (float[2, 8] y) {{
        {condition}
        a = MatMul (x, w)
        y = If (c) <then_branch = t () => (float[2, 8] p) {{ k = Constant <value_float = {then}> ()  p = Mul (a, k) }},
                  else_branch = e () => (float[2, 8] q) {{
            k = Constant <value_float = {otherwise}> ()  q = Mul (a, k) }}>
        }}"""
    )
    weight = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    onnx.save(model, path)
    return path


def choosing_twice(path: Path, numbers: tuple[float, float, float, float] = (2.0, 3.0, 5.0, 7.0)) -> Path:
    """As `choosing`, with a choice in each branch by whether the first number is positive."""

    def inner(names: str, then: float, otherwise: float) -> str:
        one, other, made = names
        return f"""{made} = If (d) <
            then_branch = t{made} () => (float[2, 8] {one}) {{
                k{one} = Constant <value_float = {then}> ()  {one} = Mul (a, k{one}) }},
            else_branch = e{made} () => (float[2, 8] {other}) {{
                k{other} = Constant <value_float = {otherwise}> ()  {other} = Mul (a, k{other}) }}>"""

    model = onnx.parser.parse_model(
        f"""<ir_version: 9, opset_import: ["": 17]> g (float[2, 8] x) => (float[2, 8] y)
        <int64[2] first = {{0, 0}}> {{
        {BY_DATA}
        one = GatherND (x, first)  d = Greater (one, zero)
        a = MatMul (x, w)
        y = If (c) <then_branch = t () => (float[2, 8] u) {{ {inner("pqu", *numbers[:2])} }},
                    else_branch = e () => (float[2, 8] v) {{ {inner("rsv", *numbers[2:])} }}>
        }}"""
    )
    weight = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    onnx.save(model, path)
    return path
