"""Nets with SN as ports to Keras and TensorFlow have it: converted by tf2onnx, then fused and compared with TensorFlow.

In an environment with TensorFlow and tf2onnx (which want other versions of shared packages than this project):

    python tools/keras_ports.py make FOLDER

and then in the project's:

    python -m tools.keras_ports compare FOLDER [--output ports.json]

Two ports: ``keras``, whose layer variance follows from the instance's moments, weights in the order IN, LN, BN; and
``tensorflow``, which takes tf.nn.moments of each branch, in the order BN, IN, LN. Both: biased variances, eps 1e-3,
channels last. Each as a net for images of one size and for any size, at opset 13 and 18.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

EPS = 1e-3
LAYERS = 4
SIZE = 32
PORTS = ("keras", "tensorflow")
OPSETS = (13, 18)


def make(folder: Path) -> None:
    """Writes PORT_SIZES_OPSET.onnx, and PORT_SIZES.npz with images and what TensorFlow makes of them."""
    import tensorflow as tf
    import tf2onnx

    rng = np.random.default_rng(0)
    for port in PORTS:
        net = _net(tf, port, rng)
        for sizes, size in (("fixed", SIZE), ("any", None)):
            signature = [tf.TensorSpec((None, size, size, 3), tf.float32, name="x")]
            for opset in OPSETS:
                path = folder / f"{port}_{sizes}_{opset}.onnx"
                tf2onnx.convert.from_function(tf.function(net), signature, opset=opset, output_path=str(path))
            shapes = ((4, SIZE, SIZE, 3), (1, SIZE, SIZE, 3) if size else (2, 45, 38, 3))
            images = [rng.normal(0.3, 1.2, shape).astype(np.float32) for shape in shapes]
            arrays = {f"x{index}": image for index, image in enumerate(images)}
            arrays |= {f"y{index}": net(tf.constant(image)).numpy() for index, image in enumerate(images)}
            np.savez(folder / f"{port}_{sizes}.npz", **arrays)
    versions = {"tensorflow": tf.__version__, "tf2onnx": tf2onnx.__version__}
    (folder / "versions.json").write_text(json.dumps(versions), encoding="utf-8")
    print(versions)


def _net(tf: Any, port: str, rng: np.random.Generator) -> Any:
    """Three convolutions with SN, the third with a residual, and a 1x1 one; the look of a trained net."""

    def variable(value: np.ndarray) -> Any:
        return tf.Variable(value.astype(np.float32))

    def norm(channels: int) -> dict[str, Any]:
        return {
            "gamma": variable(rng.uniform(0.5, 1.5, channels)),
            "beta": variable(0.1 * rng.normal(size=channels)),
            "mean_weights": variable(rng.normal(size=3)),
            "variance_weights": variable(rng.normal(size=3)),
            "moving_mean": variable(0.5 * rng.normal(size=channels)),
            "moving_variance": variable(rng.uniform(0.5, 2, channels)),
        }

    sizes = ((3, 3, 16), (3, 16, 16), (3, 16, 16), (1, 16, 8))
    filters = [variable(rng.normal(size=(k, k, c, o)) / (k * k * c) ** 0.5) for k, c, o in sizes]
    norms = [norm(o) for *_, o in sizes]
    dense = variable(rng.normal(size=(8, 5)))

    def net(x: Any) -> Any:
        for index, (weights, layer) in enumerate(zip(filters, norms, strict=True)):
            before = x
            x = _switch_norm(tf, port, tf.nn.conv2d(x, weights, 1 if index else 2, "SAME"), layer)
            if index == 2:
                x = x + before
            x = tf.nn.relu(x) if index < 3 else x
        return tf.reduce_mean(x, (1, 2)) @ dense

    return net


def _switch_norm(tf: Any, port: str, x: Any, layer: dict[str, Any]) -> Any:
    mean_in, var_in = tf.nn.moments(x, [1, 2], keepdims=True)
    if port == "keras":
        mean_ln = tf.reduce_mean(mean_in, -1, keepdims=True)
        square = var_in + tf.square(mean_in)
        var_ln = tf.reduce_mean(square, -1, keepdims=True) - tf.square(mean_ln)
    else:
        mean_ln, var_ln = tf.nn.moments(x, [1, 2, 3], keepdims=True)
    branches = [(mean_in, var_in), (mean_ln, var_ln), (layer["moving_mean"], layer["moving_variance"])]
    if port == "tensorflow":
        branches = [branches[2], *branches[:2]]
    w, v = tf.nn.softmax(layer["mean_weights"]), tf.nn.softmax(layer["variance_weights"])
    mean = sum(w[index] * mean for index, (mean, _) in enumerate(branches))
    var = sum(v[index] * var for index, (_, var) in enumerate(branches))
    return (x - mean) / tf.sqrt(var + EPS) * layer["gamma"] + layer["beta"]


def compare(folder: Path) -> dict[str, Any]:
    """Fuses each file; layers found, and the relative L2 distance to TensorFlow's float32 over both batches."""
    from sn_deploy.fuse import fuse
    from sn_deploy.runtime.ort import OrtSession

    rows = []
    for path in sorted(folder.glob("*_*_*.onnx")):
        fused = path.with_suffix(".fused")
        report = fuse(path, fused)
        data = np.load(folder / f"{path.stem.rpartition('_')[0]}.npz")
        row: dict[str, Any] = {"file": path.stem, "layers": len(report.layers), "forms": dict(report.forms)}
        for name, source, native in (("before", path, False), ("function", fused, False), ("native", fused, True)):
            with OrtSession(source, native=native) as session:
                outputs = [next(iter(session.run({session.inputs[0].name: data[f"x{i}"]}).values())) for i in (0, 1)]
            difference = sum(float(np.square(y - data[f"y{i}"]).sum()) for i, y in enumerate(outputs))
            row[name] = (difference / sum(float(np.square(data[f"y{i}"]).sum()) for i in (0, 1))) ** 0.5
        rows.append(row)
        if row["layers"] != LAYERS:
            reasons = "; ".join(f"{miss.node}: {miss.reason}" for miss in report.near_misses)
            raise SystemExit(f"{path}: {row['layers']} layers of {LAYERS} found: {reasons}")
        print("  ".join(f"{key} {value:.1e}" if isinstance(value, float) else str(value) for key, value in row.items()))
    return {"versions": json.loads((folder / "versions.json").read_text(encoding="utf-8")), "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("action", choices=("make", "compare"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--output", type=Path, help="write the figures here as JSON")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if arguments.action == "make":
        make(arguments.folder)
        return
    figures = compare(arguments.folder)
    if arguments.output:
        arguments.output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
