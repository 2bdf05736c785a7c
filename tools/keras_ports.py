"""Nets with SN as ports to Keras and TensorFlow have it, converted by tf2onnx; tools/rows/tf_ports.py runs this.

In an environment with TensorFlow, tf-keras and tf2onnx, which want other versions of packages than this project:

    python tools/keras_ports.py FOLDER [--keras switchnorm.py] [--tensorflow switch_norm.py]

Three ports, all with biased variances and channels last; the first two as a net, for images of one size and for any
size, at opset 13 and 18:

- ``keras``: the layer of the public Keras port, whose layer variance follows from the instance's moments, in the order
  IN, LN, BN, eps 1e-3. Made if ``--keras`` names its file.
- ``moments``: tf.nn.moments of each branch, in the order BN, IN, LN, eps 1e-3, the batch's recorded.
- ``tensorflow``: the public TensorFlow port as it is, in that order, one layer: it takes the statistics of the batch
  that it is given, in evaluation, too. Made if ``--tensorflow`` names its file.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

EPS = 1e-3
SIZE = 32
OPSETS = (13, 18)
CONVOLUTIONS = ((3, 3, 16), (3, 16, 16), (3, 16, 16), (1, 16, 8))
CLASSES = 5

Arrays = dict[str, np.ndarray]
Layer = Callable[[Any], Any]


def arrays(seed: int = 0) -> Arrays:
    """Weights and statistics with the look of a trained net: ``filter0``, ``gamma0``, …, ``dense``."""
    rng = np.random.default_rng(seed)
    made: Arrays = {"dense": rng.normal(size=(8, CLASSES))}
    for index, (k, c, o) in enumerate(CONVOLUTIONS):
        made[f"filter{index}"] = rng.normal(size=(k, k, c, o)) / (k * k * c) ** 0.5
        made[f"gamma{index}"] = rng.uniform(0.5, 1.5, o)
        made[f"beta{index}"] = 0.1 * rng.normal(size=o)
        made[f"mean_weights{index}"] = rng.normal(size=3)
        made[f"variance_weights{index}"] = rng.normal(size=3)
        made[f"moving_mean{index}"] = 0.5 * rng.normal(size=o)
        made[f"moving_variance{index}"] = rng.uniform(0.5, 2, o)
    return {name: value.astype(np.float32) for name, value in made.items()}


def make(folder: Path, keras: Path | None, tensorflow: Path | None) -> None:
    """Writes PORT_SIZES_OPSET.onnx, PORT_SIZES.npz with images and what TensorFlow makes of them, and arrays.npz."""
    import tensorflow as tf
    import tf2onnx

    given = arrays()
    np.savez(folder / "arrays.npz", **given)
    ports: dict[str, list[Layer]] = {"moments": [_moments(tf, given, index) for index in range(len(CONVOLUTIONS))]}
    if keras is not None:
        ports["keras"] = _keras(tf, given, keras)
    rng = np.random.default_rng(1)
    for port, layers in ports.items():
        net = _net(tf, given, layers)
        for sizes, size in (("fixed", SIZE), ("any", None)):
            signature = [tf.TensorSpec((None, size, size, 3), tf.float32, name="x")]
            for opset in OPSETS:
                path = folder / f"{port}_{sizes}_{opset}.onnx"
                tf2onnx.convert.from_function(tf.function(net), signature, opset=opset, output_path=str(path))
            shapes = ((4, SIZE, SIZE, 3), (1, SIZE, SIZE, 3) if size else (2, 45, 38, 3))
            images = [rng.normal(0.3, 1.2, shape).astype(np.float32) for shape in shapes]
            pairs = {f"x{index}": image for index, image in enumerate(images)}
            pairs |= {f"y{index}": net(tf.constant(image)).numpy() for index, image in enumerate(images)}
            np.savez(folder / f"{port}_{sizes}.npz", **pairs)
    if tensorflow is not None:
        _convert_published(tf, tf2onnx, tensorflow, folder / "tensorflow.onnx")
    versions = {"tensorflow": tf.__version__, "tf2onnx": tf2onnx.__version__}
    if keras is not None:
        import tf_keras

        versions["tf-keras"] = tf_keras.__version__
    (folder / "versions.json").write_text(json.dumps(versions), encoding="utf-8")
    print(versions)


def _net(tf: Any, given: Arrays, layers: list[Layer]) -> Layer:
    """Three convolutions with SN, the third with a residual, and a 1x1 one; pooled, to classes."""
    weights = {name: tf.Variable(value) for name, value in given.items() if name.startswith(("filter", "dense"))}

    def net(x: Any) -> Any:
        for index, layer in enumerate(layers):
            before = x
            x = layer(tf.nn.conv2d(x, weights[f"filter{index}"], 1 if index else 2, "SAME"))
            if index == 2:
                x = x + before
            x = tf.nn.relu(x) if index < 3 else x
        return tf.reduce_mean(x, (1, 2)) @ weights["dense"]

    return net


def _moments(tf: Any, given: Arrays, index: int) -> Layer:
    names = ("gamma", "beta", "mean_weights", "variance_weights", "moving_mean", "moving_variance")
    own = {name: tf.Variable(given[f"{name}{index}"]) for name in names}

    def layer(x: Any) -> Any:
        branches = [
            (own["moving_mean"], own["moving_variance"]),
            tf.nn.moments(x, [1, 2], keepdims=True),
            tf.nn.moments(x, [1, 2, 3], keepdims=True),
        ]
        w, v = tf.nn.softmax(own["mean_weights"]), tf.nn.softmax(own["variance_weights"])
        mean = sum(w[place] * mean for place, (mean, _) in enumerate(branches))
        var = sum(v[place] * var for place, (_, var) in enumerate(branches))
        return (x - mean) / tf.sqrt(var + EPS) * own["gamma"] + own["beta"]

    return layer


def _keras(tf: Any, given: Arrays, file: Path) -> list[Layer]:
    """Layers of the public Keras port, written for Keras 2.1: its imports are of tf-keras here, its softmax is
    TensorFlow's, as tf-keras' own refuses vectors.
    """
    import tf_keras  # noqa: F401 - what the port imports

    source = file.read_text(encoding="utf-8")
    for old, new in (
        ("from keras.engine import", "from keras.layers import"),
        ("from keras.utils.generic_utils import", "from keras.utils import"),
        ("from keras", "from tf_keras"),
        ("K.softmax(", "tf.nn.softmax("),
    ):
        source = source.replace(old, new)
    module = ModuleType("switchnorm")
    module.tf = tf  # type: ignore[attr-defined]
    exec(compile(source, file.name, "exec"), module.__dict__)

    def layer(index: int) -> Layer:
        made = module.SwitchNormalization(axis=-1)
        made.build((None, None, None, CONVOLUTIONS[index][2]))
        for variable in made.weights:
            variable.assign(given[f"{variable.name.split('/')[-1].split(':')[0]}{index}"])
        return lambda x: made(x, training=False)

    return [layer(index) for index in range(len(CONVOLUTIONS))]


def _convert_published(tf: Any, tf2onnx: Any, file: Path, path: Path) -> None:
    """One layer of the public TensorFlow port, which is written for TensorFlow 1, frozen."""
    sys.modules["tensorflow"], real = tf.compat.v1, sys.modules["tensorflow"]
    try:
        module = ModuleType("switch_norm")
        exec(compile(file.read_text(encoding="utf-8"), file.name, "exec"), module.__dict__)
    finally:
        sys.modules["tensorflow"] = real
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, (None, SIZE, SIZE, 16), name="x")
        tf.identity(module.switch_norm(x), name="y")
        session.run(v1.global_variables_initializer())
        frozen = v1.graph_util.convert_variables_to_constants(session, session.graph_def, ["y"])
    tf2onnx.convert.from_graph_def(
        frozen, input_names=["x:0"], output_names=["y:0"], opset=OPSETS[-1], output_path=str(path)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--keras", type=Path, help="switchnorm.py of the public Keras port")
    parser.add_argument("--tensorflow", type=Path, help="switch_norm.py of the public TensorFlow port")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    make(arguments.folder, arguments.keras, arguments.tensorflow)


if __name__ == "__main__":
    main()
