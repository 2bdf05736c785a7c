"""Figures of the task: what a difference between outputs means for who uses them."""
