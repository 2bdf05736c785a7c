"""Where the samples of a check come from: one file for each kind of data."""
