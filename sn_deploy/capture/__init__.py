"""From a torch model with recognised SN layers to an ONNX graph with opaque SwitchNorm nodes. Owns torch's exporter."""
