"""What of TensorRT and CUDA needs a GPU, on the host: its objects, with the names that the real bindings have.

The module ``tensorrt`` is the real one, and so are its enums, loggers, monitors and the plugin registry. A builder, a
parser's network, a runtime and what comes of them can't be made without a GPU; these stand in for them. A member that
the real class doesn't have is an error, so a wrong name is found here and not on the first GPU.
"""
