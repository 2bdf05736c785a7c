"""Writes stubs of TensorRT's internal virtual classes, which the fake network is made of.

    python generate_stubs.py PATH/TO/NvInferImpl.h > stubs.h

Each method of each class does nothing but say that it was called, if SN_TRACE_STUBS is set, and return a default. The
classes differ between versions of TensorRT, so the stubs are made from the headers of the version in hand.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

CLASSES = (
    "VNetworkDefinition",
    "VTensor",
    "VLayer",
    "VPluginV3Layer",
    "VConstantLayer",
    "VCastLayer",
    "VConvolutionLayer",
    "VQuantizeLayer",
    "VDequantizeLayer",
    "VShapeLayer",
    "VIdentityLayer",
    "VUnaryLayer",
    "VElementWiseLayer",
    "VReduceLayer",
    "VMatrixMultiplyLayer",
    "VGatherLayer",
    "VFillLayer",
    "VSliceLayer",
    "VConcatenationLayer",
    "VShuffleLayer",
    "VSqueezeLayer",
    "VUnsqueezeLayer",
    "VBuilder",
    "VRefitter",
)

PREAMBLE = """\
#pragma once
#include <cstdio>
#include <cstdlib>
#include <type_traits>
#include <utility>

namespace nvinfer1::apiv {

// A default of any type. A reference has nothing to refer to: a method that gives one has to be overridden.
template <typename Result>
Result stub(const char* method) {
  if (std::getenv("SN_TRACE_STUBS") != nullptr) std::fprintf(stderr, "stub: %s\\n", method);
  if constexpr (std::is_reference_v<Result>) {
    std::fprintf(stderr, "the parser called %s, which the fake network doesn't have\\n", method);
    std::abort();
  } else {
    return Result();
  }
}
"""


def without_comments(text: str) -> str:
    """C++ source without its comments."""
    return re.sub(r"//[^\n]*", "", re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL))


def stub_class(header: str, name: str) -> str:
    """A class Stub<name> that overrides every pure virtual method of class `name`."""
    found = re.search(rf"class {name} : public VRoot\s*\{{(.*?)\n\}};", header, re.DOTALL)
    if found is None:
        raise SystemExit(f"class {name} was not found")
    methods = []
    for match in re.findall(r"virtual\s+([^;]*?)\s*=\s*0\s*;", found.group(1), re.DOTALL):
        declaration = " ".join(match.split())
        parts = re.match(r"(.*?[\s*&])(\w+)\s*\(", declaration)
        if parts is None:
            raise SystemExit(f"{name}: a method was not understood: {declaration}")
        result, method = parts.group(1).strip(), parts.group(2)
        methods.append(f'  {declaration} override {{ return stub<{result}>("{name}::{method}"); }}')
    return "\n".join([f"struct Stub{name} : {name} {{", *methods, "};", ""])


def main() -> None:
    """Reads the header named on the command line and prints the stubs."""
    header = without_comments(Path(sys.argv[1]).read_text(encoding="utf-8"))
    stubs = [stub_class(header, name) for name in CLASSES]
    sys.stdout.write("\n".join([PREAMBLE, *stubs, "}  // namespace nvinfer1::apiv\n"]))


if __name__ == "__main__":
    main()
