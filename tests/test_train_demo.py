"""The training script: it repeats itself bit for bit, and leaves torch's settings as they were."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sn_deploy.check.digits_data import DigitsSplit, load_digits_split
from sn_deploy.errors import SnDeployError
from sn_deploy.models.digits import load_pretrained, training_record
from tools import train_demo


@pytest.fixture(scope="module")
def data() -> DigitsSplit:
    return DigitsSplit(*(array[:256] for array in load_digits_split()))


def test_two_runs_write_the_same_file_and_another_seed_a_different_one(data: DigitsSplit, tmp_path: Path) -> None:
    for name, seed in (("one", 3), ("two", 3), ("three", 4)):
        torch.rand(1)  # whatever the state outside is
        train_demo.write(tmp_path / name, train_demo.train(data, seed, epochs=1), seed, 1, correct=200, held_out=256)
    one, two, three = (tmp_path.joinpath(name).read_bytes() for name in ("one", "two", "three"))
    assert one == two
    assert one != three


def test_training_learns_and_the_file_loads(data: DigitsSplit, tmp_path: Path) -> None:
    path = tmp_path / "digits.safetensors"
    model = train_demo.train(data, seed=3, epochs=4)
    correct = train_demo.count_correct(model, data.test_images, data.test_labels)
    assert correct > 0.8 * len(data.test_labels)
    train_demo.write(path, model, 3, 4, correct, len(data.test_labels))
    loaded = load_pretrained(path)
    assert train_demo.count_correct(loaded, data.test_images, data.test_labels) == correct
    assert training_record(path)["correct"] == correct


def test_torch_is_left_as_it_was(data: DigitsSplit) -> None:
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    train_demo.train(data, seed=3, epochs=1)
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.equal(torch.get_rng_state(), state)


def test_every_parameter_is_trained_once() -> None:
    model = train_demo.DigitsNet()
    trained = [id(parameter) for group in train_demo.parameter_groups(model) for parameter in group["params"]]
    assert sorted(trained) == sorted(map(id, model.parameters()))


def test_an_output_that_cannot_be_written_is_refused_before_training(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.argv", ["train_demo.py", "--output", str(tmp_path / "none" / "digits.safetensors")])
    with pytest.raises(SnDeployError, match="its folder doesn't exist"):
        train_demo.main()


def test_the_table_shows_each_layers_shares() -> None:
    lines = train_demo.mix_table(load_pretrained()).splitlines()
    assert [line.split()[0] for line in lines] == ["layer", "sn1", "sn2", "sn3", "sn4"]
    for line in lines[1:]:
        shares = [float(word) for word in line.split()[1:] if word != "-"]
        assert sum(shares) == pytest.approx(2, abs=0.01)
