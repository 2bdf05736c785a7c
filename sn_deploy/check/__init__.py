"""Comparing backends: accuracy and latency. Knows no backend; see `sn_deploy.runtime`."""
