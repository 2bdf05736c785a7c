"""Libraries that come with an extra: imported when they are needed, and named with the extra where they are missing."""

from __future__ import annotations

import importlib
from typing import Any

from sn_deploy.errors import SnDeployError, first_line


def imported(*modules: str, called: str, where: str, extra: str) -> Any:
    """The last of ``modules``, after the others.

    Args:
        called: what it is for people.
        where: what needs it, for the error.
        extra: of sn-deploy, which brings it.

    Raises:
        SnDeployError: one of them can't be imported.
    """
    try:
        return [importlib.import_module(module) for module in modules][-1]
    except (ImportError, RuntimeError) as error:  # the latter of tritonclient, where it is there without the protocol
        raise SnDeployError(
            f"{called} can't be imported: {first_line(error)}",
            where=where,
            mend=f"install it with: pip install 'sn-deploy[{extra}]'",
        ) from error
