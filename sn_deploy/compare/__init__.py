"""How far two evaluations of a net are from each other, and what they are run on where nobody gives samples.

What every command stands on that proves a file, `check` among them.
"""
