"""The rows of docs/models.md: a file for each task of the papers, each with a tuple ``ROWS``."""

from __future__ import annotations

from tools.rows import (
    detection,
    face,
    imagenet,
    ports,
    segmentation,
    sparse,
    tf_ports,
    video,
    whitening,
    whole_detectors,
)
from tools.rows.row import Row

# A module of more rows is one more name here.
ROWS: tuple[Row, ...] = (
    *imagenet.ROWS,
    *face.ROWS,
    *segmentation.ROWS,
    *detection.ROWS,
    *whole_detectors.ROWS,
    *video.ROWS,
    *sparse.ROWS,
    *ports.ROWS,
    *tf_ports.ROWS,
    *whitening.ROWS,
)
