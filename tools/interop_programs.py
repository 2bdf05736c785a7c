"""What tools/interoperability.py runs: for each program its packages and, as text, the Python that calls it.

Each text is run in an environment of its own, without this project. That of a runtime defines ``run(path, x)``, which
gives the first output; that of a tool ``change(source, target)``, which writes another file.
"""

from __future__ import annotations

from typing import Final

_ONNX: Final = "onnx==1.23.2"
_ORT: Final = "onnxruntime==1.32.0"

_OPENVINO: Final = """
import openvino
core = (openvino.Core if hasattr(openvino, "Core") else openvino.runtime.Core)()
def run(path, x):
    return core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([x])[0]
"""
_OPENCV: Final = """
import cv2
def run(path, x):
    net = cv2.dnn.readNetFromONNX(path)
    net.setInput(x)
    return net.forward()
"""
_TVM: Final = """
import onnx, tvm
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx
def run(path, x):
    module = relax.transform.DecomposeOpsForInference()(from_onnx(onnx.load(path)))
    machine = relax.VirtualMachine(tvm.compile(module, tvm.target.Target("llvm")), tvm.cpu())
    found = machine["main"](tvm.runtime.tensor(x))
    return (found if hasattr(found, "numpy") else found[0]).numpy()
"""
_IREE: Final = """
import os, subprocess, sys
import iree.runtime
programs = os.path.dirname(sys.executable)
def call(*words):
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[:300])
def run(path, x):
    call(programs + "/iree-import-onnx", path, "-o", path + ".mlir")
    call(programs + "/iree-compile", "--iree-hal-target-backends=llvm-cpu", "--iree-llvmcpu-target-cpu=host",
         path + ".mlir", "-o", path + ".vmfb")
    module = iree.runtime.load_vm_flatbuffer_file(path + ".vmfb", driver="local-task")
    name = next(one for one in module.vm_module.function_names if "$" not in one and not one.startswith("__"))
    return module[name](x)
"""
_TINYGRAD: Final = """
from tinygrad import Tensor
from tinygrad.nn.onnx import OnnxRunner
def run(path, x):
    runner = OnnxRunner(path)
    return next(iter(runner({next(iter(runner.graph_inputs)): Tensor(x)}).values())).numpy()
"""
_MNN: Final = """
import os, subprocess, sys
import MNN.expr, MNN.nn, numpy, onnx
def run(path, x):
    done = subprocess.run([os.path.dirname(sys.executable) + "/mnnconvert", "-f", "ONNX", "--modelFile", path,
                           "--MNNModel", path + ".mnn", "--bizCode", "x"], capture_output=True, text=True)
    if not os.path.exists(path + ".mnn"):
        raise RuntimeError((done.stdout + done.stderr)[-300:])
    graph = onnx.load(path).graph
    net = MNN.nn.load_module_from_file(path + ".mnn", [graph.input[0].name], [graph.output[0].name])
    given = MNN.expr.const(x, list(x.shape), MNN.expr.NCHW)
    return numpy.array(MNN.expr.convert(net.forward(given), MNN.expr.NCHW).read())
"""
_NCNN: Final = """
import os, subprocess, sys
import ncnn, numpy
def run(path, x):
    shape = "inputshape=[" + ",".join(map(str, x.shape)) + "]"
    program = os.path.dirname(sys.executable) + "/pnnx"
    done = subprocess.run([program, path, "fp16=0", shape], capture_output=True, text=True)
    stem = path.removesuffix(".onnx") + ".ncnn"
    net = ncnn.Net()
    net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = net.opt.use_fp16_packed = False
    if not os.path.exists(stem + ".param") or net.load_param(stem + ".param"):
        raise RuntimeError((done.stdout + done.stderr)[-300:])
    net.load_model(stem + ".bin")
    first = numpy.ascontiguousarray(x[0])  # a Mat of an array holds no reference to it
    with net.create_extractor() as extractor:
        extractor.input("in0", ncnn.Mat(first).clone())
        return numpy.array(extractor.extract("out0")[1]).copy()
"""
_LITERT: Final = """
import glob, os, subprocess, sys, tempfile
import numpy
from ai_edge_litert.interpreter import Interpreter
def run(path, x):
    folder = tempfile.mkdtemp()
    done = subprocess.run([os.path.dirname(sys.executable) + "/onnx2tf", "-i", path, "-o", folder, "-n"],
                          capture_output=True, text=True)
    files = glob.glob(folder + "/*float32.tflite")
    if not files:
        raise RuntimeError((done.stdout + done.stderr)[-300:])
    interpreter = Interpreter(files[0])
    given = interpreter.get_input_details()[0]
    x = x if tuple(given["shape"]) == x.shape else numpy.moveaxis(x, 1, -1)
    interpreter.resize_tensor_input(given["index"], x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(given["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
"""
_RKNN: Final = """
from rknn.api import RKNN
def run(path, x):
    made = RKNN(verbose=False)
    made.config(target_platform="rk3588", optimization_level=0)
    if made.load_onnx(model=path) or made.build(do_quantization=False) or made.init_runtime():
        raise RuntimeError("it can't be built")
    return made.inference(inputs=[x], data_format="nchw")[0]
"""
_ONNX2TORCH: Final = """
import torch
from onnx2torch import convert
def run(path, x):
    with torch.no_grad():
        return convert(path)(torch.from_numpy(x)).numpy()
"""
_ONNX2PYTORCH: Final = """
import onnx, torch
from onnx2pytorch import ConvertModel
def run(path, x):
    with torch.no_grad():
        return ConvertModel(onnx.load(path))(torch.from_numpy(x)).numpy()
"""
_ONNX_TF: Final = """
import onnx
from onnx_tf.backend import prepare
def run(path, x):
    return prepare(onnx.load(path)).run(x)[0]
"""

# Name -> its packages, what calls it.
RUNTIMES: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    "OpenVINO 2023.3": (("openvino==2023.3.0",), _OPENVINO),
    "OpenVINO 2024.6": (("openvino==2024.6.0",), _OPENVINO),
    "OpenVINO 2026.4": (("openvino==2026.4.1",), _OPENVINO),
    "OpenCV 4.14": (("opencv-python-headless==4.14.0.94",), _OPENCV),
    "OpenCV 5.0": (("opencv-python-headless==5.0.0.93",), _OPENCV),
    "TVM 0.27": (("apache-tvm==0.27.0.post1", _ONNX), _TVM),
    "IREE 3.13": (("iree-base-compiler==3.13.0", "iree-base-runtime==3.13.0", _ONNX), _IREE),
    "tinygrad 0.14": (("tinygrad==0.14.0", _ONNX), _TINYGRAD),
    "MNN 3.6": (("mnn==3.6.1", _ONNX), _MNN),
    "ncnn by pnnx": (("pnnx==20261020", "ncnn==1.0.20261020", _ONNX), _NCNN),
    "LiteRT by onnx2tf": (
        (
            *("onnx2tf==2.6.9", "tensorflow-cpu", "tf-keras", "ai-edge-litert", "psutil"),
            *("onnx-graphsurgeon", "sng4onnx", "onnxsim"),
        ),
        _LITERT,
    ),
    "RKNN 2.5": (("rknn-toolkit2==2.5.0", "setuptools<80"), _RKNN),
    "onnx2torch 1.5": (("onnx2torch==1.5.15",), _ONNX2TORCH),
    "onnx2pytorch 0.6": (("onnx2pytorch==0.6.0",), _ONNX2PYTORCH),
    "onnx-tf 1.10": (
        ("onnx-tf==1.10.0", "tensorflow-cpu==2.15.1", "tensorflow-probability<0.24", "onnx<1.17", "ml_dtypes<0.5"),
        _ONNX_TF,
    ),
}


def _change(imports: str, *lines: str) -> str:
    return "\n".join(["import onnx", imports, "def change(source, target):", *(f"    {line}" for line in lines)])


_SURGEON: Final = "onnx-graphsurgeon==0.6.1"
_CONVERTER: Final = "from onnxruntime.quantization import quantize_dynamic"

# Name -> its packages, what calls it.
TOOLS: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    "onnxsim 0.8": (
        ("onnxsim==0.8.1", _ONNX),
        _change("import onnxsim", "onnx.save(onnxsim.simplify(onnx.load(source))[0], target)"),
    ),
    "onnxslim 0.1.98": (
        ("onnxslim==0.1.98", _ONNX),
        _change("import onnxslim", "onnx.save(onnxslim.slim(source), target)"),
    ),
    "onnxoptimizer 0.4": (
        ("onnxoptimizer==0.4.2", _ONNX),
        _change("import onnxoptimizer", "onnx.save(onnxoptimizer.optimize(onnx.load(source)), target)"),
    ),
    "graphsurgeon 0.6": (
        (_SURGEON, _ONNX),
        _change(
            "import onnx_graphsurgeon as gs",
            "onnx.save(gs.export_onnx(gs.import_onnx(onnx.load(source)).cleanup().toposort()), target)",
        ),
    ),
    "polygraphy 0.53 sanitize": (
        ("polygraphy==0.53.6", "colored", _SURGEON, _ORT, _ONNX),
        _change(
            "import os, subprocess, sys",
            "program = os.path.dirname(sys.executable) + '/polygraphy'",
            "subprocess.run([program, 'surgeon', 'sanitize', source, '--fold-constants', '-o', target], check=True)",
        ),
    ),
    "onnx version_converter": (
        (_ONNX,),
        _change(
            "from onnx import version_converter",
            "onnx.save(version_converter.convert_version(onnx.load(source), 18), target)",
        ),
    ),
    "onnx extract_model": (
        (_ONNX,),
        _change(
            "import onnx.utils",
            "graph = onnx.load(source).graph",
            "onnx.utils.extract_model(source, target, [graph.input[0].name], [graph.output[0].name])",
        ),
    ),
    "onnxscript 0.7 optimizer": (
        ("onnxscript==0.7.2", _ONNX),
        _change("from onnxscript import optimizer", "onnx.save(optimizer.optimize(onnx.load(source)), target)"),
    ),
    "onnxconverter-common float16": (
        ("onnxconverter-common==1.16.0", _ONNX),
        _change(
            "from onnxconverter_common import float16",
            "onnx.save(float16.convert_float_to_float16(onnx.load(source), keep_io_types=True), target)",
        ),
    ),
    "Olive 0.13 peephole": (
        ("olive-ai==0.13.0", "requests", _ORT, _ONNX),
        _change(
            "import os, shutil, subprocess, sys",
            "program = os.path.dirname(sys.executable) + '/olive'",
            "words = ['run-pass', '--pass-name', 'OnnxPeepholeOptimizer', '-m', source, '-o', 'made']",
            "subprocess.run([program, *words], check=True)",
            "shutil.copy('made/model.onnx', target)",
        ),
    ),
    "ONNX Runtime quantize_dynamic": ((_ORT, _ONNX), _change(_CONVERTER, "quantize_dynamic(source, target)")),
}
