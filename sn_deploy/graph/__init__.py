"""The operator in ONNX files: its contract, its function body, and the passes that write it."""
