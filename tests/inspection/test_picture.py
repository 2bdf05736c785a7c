"""The picture is measured: each part of each bar has the height that its weight says."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from sn_deploy.errors import SnDeployError
from sn_deploy.inspection.layer import BRANCHES, LayerWeights
from sn_deploy.inspection.picture import write_picture


def make_layers(count: int, name: str = "net.layer{}.sn") -> list[LayerWeights]:
    rng = np.random.default_rng(count)
    weights = rng.dirichlet([1, 1, 1], (count, 2))
    return [
        LayerWeights(name.format(i), "SN2d", 64, None, tuple(weights[i, 0]), tuple(weights[i, 1])) for i in range(count)
    ]


def extents_from_svg(path: Path) -> dict[str, tuple[float, float]]:
    """Lower and upper edge of each part of a bar, in points from the top, by its id."""
    found = {}
    for group in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}g"):
        if re.fullmatch(r"(mean|var)-(IN|LN|BN)-\d+", group.get("id", "")):
            (outline,) = group.iter("{http://www.w3.org/2000/svg}path")
            ys = [float(y) for y in re.findall(r"[ML] \S+ (\S+)", outline.get("d", ""))]
            found[group.get("id", "")] = (max(ys), min(ys))
    return found


@pytest.mark.parametrize("count", [1, 53])
def test_each_bar_is_as_high_as_its_weight(tmp_path: Path, count: int) -> None:
    layers = make_layers(count)
    write_picture(layers, tmp_path / "p.svg", "model.onnx")
    parts = extents_from_svg(tmp_path / "p.svg")
    assert len(parts) == count * 2 * len(BRANCHES)
    for statistic in ("mean", "var"):
        bottom, _ = parts[f"{statistic}-IN-0"]
        _, top = parts[f"{statistic}-BN-0"]
        for i, layer in enumerate(layers):
            start = 0.0
            for branch, weight in zip(BRANCHES, getattr(layer, statistic), strict=True):
                low, high = ((bottom - y) / (bottom - top) for y in parts[f"{statistic}-{branch}-{i}"])
                assert low == pytest.approx(start, abs=1e-4)
                assert high == pytest.approx(start + weight, abs=1e-4)
                start += weight


def test_a_planted_fault_is_seen_in_the_heights(tmp_path: Path) -> None:
    layer = LayerWeights("a", "SN2d", 4, None, (0.7, 0.2, 0.1), (0.1, 0.2, 0.7))
    write_picture([layer], tmp_path / "p.svg", "")
    parts = extents_from_svg(tmp_path / "p.svg")
    heights = {name: low - high for name, (low, high) in parts.items()}
    assert heights["mean-IN-0"] == pytest.approx(7 * heights["mean-BN-0"], rel=1e-3)
    assert heights["var-BN-0"] == pytest.approx(7 * heights["var-IN-0"], rel=1e-3)


def test_the_same_layers_give_the_same_file(tmp_path: Path) -> None:
    for suffix in ("svg", "png", "pdf"):
        paths = [tmp_path / f"{i}.{suffix}" for i in range(2)]
        for path in paths:
            write_picture(make_layers(3), path, "title")
        assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize(
    ("suffix", "magic"), [(".svg", b"<?xml"), (".png", b"\x89PNG"), (".pdf", b"%PDF"), (".PNG", b"\x89PNG")]
)
def test_the_suffix_chooses_the_format(tmp_path: Path, suffix: str, magic: bytes) -> None:
    write_picture(make_layers(2), tmp_path / f"p{suffix}", "title")
    assert (tmp_path / f"p{suffix}").read_bytes().startswith(magic)


@pytest.mark.parametrize("name", ["$x_1$.[bold]", "日本", "m." * 200 + "sn{}", ""])
def test_odd_names_and_titles_are_drawn_without_a_warning(tmp_path: Path, name: str) -> None:
    write_picture(make_layers(2, name), tmp_path / "p.png", "$y [red] " + name)


def test_no_global_state_of_matplotlib_is_left(tmp_path: Path) -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    write_picture(make_layers(2), tmp_path / "p.svg", "title")
    assert dict(mpl.rcParams) == before


def test_paths_that_cant_be_pictures_are_refused(tmp_path: Path) -> None:
    for name in ("p.jpeg", "p"):
        with pytest.raises(SnDeployError, match=r"names no format of a picture \(expected \.svg, \.png or \.pdf\)"):
            write_picture(make_layers(1), tmp_path / name, "")
    with pytest.raises(SnDeployError, match="folder doesn't exist"):
        write_picture(make_layers(1), tmp_path / "none" / "p.png", "")
    assert list(tmp_path.iterdir()) == []
