"""Which layers of a half-precision file must stay in float32 for the result to pass.

The graph is cut into blocks, one for each SN layer and what leads to it. Files in which some blocks compute in float32
are built, run on the check's own data and judged by its own limits, until a small set is left.
"""
