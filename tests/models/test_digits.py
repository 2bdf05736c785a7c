"""The demo's network: the committed weights are what their record says, and a bad file is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sn_deploy.check.digits_data import load_digits_split
from sn_deploy.errors import SnDeployError
from sn_deploy.models.digits import METADATA_KEY, WEIGHTS, digits, load_pretrained, training_record
from sn_deploy.nn import SwitchNorm


def test_the_committed_weights_have_the_accuracy_of_their_record() -> None:
    record = training_record()
    data = load_digits_split()
    with torch.no_grad():
        found = load_pretrained()(torch.from_numpy(data.test_images)).argmax(1).numpy()
    assert (found == data.test_labels).sum() == record["correct"]
    assert len(data.test_labels) == record["held_out"]
    assert record["accuracy"] == pytest.approx(record["correct"] / record["held_out"], abs=1e-6)
    assert record["accuracy"] >= 0.98


def test_every_layer_has_moved_away_from_equal_shares() -> None:
    layers = [module for module in load_pretrained().modules() if isinstance(module, SwitchNorm)]
    assert [layer.using_bn for layer in layers] == [True, False, True, False]
    for layer in layers:
        for logits in (layer.mean_weight, layer.var_weight):
            shares = logits.softmax(0)
            assert (shares - 1 / len(shares)).abs().max() > 0.04
            assert shares.min() > 0.01  # no branch is switched off, so a fault in any of them shows


def test_the_pretrained_network_is_in_eval_mode_and_a_new_one_is_not() -> None:
    assert not any(module.training for module in load_pretrained().modules())
    assert digits().training
    assert digits(num_classes=4)(torch.rand(3, 1, 8, 8)).shape == (3, 4)


@pytest.mark.parametrize("reader", [load_pretrained, training_record])
def test_missing_and_damaged_weights_are_refused(reader: object, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(WEIGHTS.read_bytes()[:-100])
    for path in (tmp_path / "none.safetensors", damaged):
        with pytest.raises(SnDeployError, match=r"the weights can't be read: .*; reinstall sn-deploy, or train again"):
            reader(path)


def test_another_networks_weights_are_refused(tmp_path: Path) -> None:
    tensors = load_file(WEIGHTS)
    del tensors["sn3.running_var"]
    save_file(tensors, tmp_path / "other.safetensors")
    with pytest.raises(SnDeployError, match=r"doesn't fit DigitsNet: .*sn3\.running_var"):
        load_pretrained(tmp_path / "other.safetensors")
    with pytest.raises(SnDeployError, match="has no record of its training"):
        training_record(tmp_path / "other.safetensors")


def test_the_record_is_one_entry() -> None:
    # With more, safetensors writes them in an order that changes from run to run.
    from safetensors import safe_open

    with safe_open(WEIGHTS, framework="pt") as file:
        assert list(file.metadata()) == [METADATA_KEY]
