"""The error after each SN layer: where the layers are in each backend, what they compute, and what they should.

Every backend gives X and Y of its layers (`tensors.Taps`). Each layer's Y is held against the reference's Y, which
tells what has come together so far, and against the reference's layer computed in float64 on the backend's own X, which
tells what the layer adds. Sums are exact, so parts of a check merge to the bit of one run.
"""
