"""Triton's ONNX Runtime backend in its Python backend: copied to ``backends/onnxruntime/model.py`` it runs any model.

No wheel carries the real one (C++). Like that it takes model.onnx, registers the libraries of ``op_library_filename``
under the path that stands there, and runs the requests of a batch together. Everything else is Triton's own.
"""

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.config = json.loads(args["model_config"])
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        for library in self.config.get("model_operations", {}).get("op_library_filename", []):
            options.register_custom_ops_library(library)
        file = self.config["default_model_filename"] or "model.onnx"
        path = Path(args["model_repository"]) / args["model_version"] / file
        self.session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def execute(self, requests):
        names = [one["name"] for one in self.config["input"]]
        tensors = [
            {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in names}
            for request in requests
        ]
        if not self.config["max_batch_size"]:
            return [self.response(self.session.run(None, given)) for given in tensors]
        sizes = [len(given[names[0]]) for given in tensors]
        together = {name: np.concatenate([given[name] for given in tensors]) for name in names}
        results = self.session.run(None, together)
        ends = np.cumsum(sizes)[:-1]
        return [self.response(parts) for parts in zip(*(np.split(one, ends) for one in results), strict=True)]

    def response(self, results):
        names = [one.name for one in self.session.get_outputs()]
        return pb_utils.InferenceResponse([pb_utils.Tensor(*pair) for pair in zip(names, results, strict=True)])
