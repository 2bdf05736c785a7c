"""The user's model, built by the user's own code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from sn_deploy import user_code
from sn_deploy.capture.unwrap import unwrap_inside_, unwrapped
from sn_deploy.errors import SnDeployError


def build_model(reference: str, arguments: Mapping[str, Any]) -> torch.nn.Module:
    """What ``--model PACKAGE.MODULE:CALLABLE`` and ``--model-arg`` describe; a module instance is taken as it is.

    Of DataParallel and the like the module inside, wherever they stand: that is the one whose names checkpoints have.

    Raises:
        SnDeployError: the reference leads nowhere, the callable fails, or its result is no torch.nn.Module, or one of
            TorchScript.
    """
    where = f"--model {reference}"
    model = user_code.load_object(reference, option="--model")
    if isinstance(model, torch.nn.Module):
        if arguments:
            raise SnDeployError("is a module already, it takes no --model-arg", where=where)
    else:
        model = user_code.call(model, arguments, option=where)
        if not isinstance(model, torch.nn.Module):
            raise SnDeployError(f"gives a {type(model).__name__}", where=where, expected="a torch.nn.Module")
    model = unwrapped(model)
    unwrap_inside_(model)
    return model
