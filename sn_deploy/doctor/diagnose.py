"""All findings, in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from sn_deploy.doctor.devices import find_gpu
from sn_deploy.doctor.finding import Finding
from sn_deploy.doctor.libraries import (
    LIBRARIES,
    Library,
    find_library,
    find_onnxruntime_clash,
    find_python,
    find_sn_deploy,
)
from sn_deploy.doctor.plugins import LIBRARIES as PLUGINS
from sn_deploy.doctor.plugins import PluginLibrary, find_plugin


def diagnose(libraries: Sequence[Library] = LIBRARIES, plugins: Sequence[PluginLibrary] = PLUGINS) -> list[Finding]:
    """Looks at everything, several things at once; takes about as long as the slowest import.

    Args:
        libraries, plugins: what to look for; by default all that sn-deploy uses.
    """
    checks: list[Callable[[], Finding | None]] = [
        find_python,
        find_sn_deploy,
        *(partial(find_library, library) for library in libraries),
        find_onnxruntime_clash,
        *(partial(find_plugin, plugin) for plugin in plugins),
        find_gpu,
    ]
    with ThreadPoolExecutor(max_workers=4) as pool:
        findings = pool.map(lambda check: check(), checks)
        return [finding for finding in findings if finding is not None]
