"""Comparing backends: accuracy and latency. Only `backends` knows which runners there are."""
