"""The runtimes: each runs an exported model as `run(dict[str, ndarray]) -> dict[str, ndarray]`."""
