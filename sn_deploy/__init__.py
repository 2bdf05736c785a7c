"""Takes trained PyTorch models with Switchable Normalization to ONNX Runtime and TensorRT, and proves the result."""

from __future__ import annotations

__version__ = "0.1.0"
