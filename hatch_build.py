"""Compiles the matching kernels, if there is a C compiler; the package works without them.

The library is plain C that ctypes loads: it needs no headers of Python and fits every version.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES: Final = (
    "agency_adapters/galleries/native_avx2.c",
    "agency_adapters/galleries/native_vnni.c",
)
LIBRARY: Final = "agency_adapters/galleries/_native.so"
FLAGS: Final = (
    *("-O3", "-std=c11", "-Wall", "-Wextra", "-fvisibility=hidden", "-fPIC", "-shared"),
    *("-ffp-contract=off", "-fno-math-errno"),  # every product rounded by itself
)


class KernelsHook(BuildHookInterface):  # type: ignore[type-arg]
    """Puts the compiled kernels beside their source, and into the wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Compile before the files are collected."""
        if self.target_name != "wheel":
            return
        out = Path(self.root) / LIBRARY
        out.unlink(missing_ok=True)  # an older one may lack what the package calls
        compiler = shutil.which(os.environ.get("CC", "cc"))
        if compiler is None:
            self.app.display_warning("no C compiler: galleries will be scanned by NumKong")
            return
        made = out.with_suffix(".new")
        command = [compiler, *FLAGS, "-o", str(made)]
        command += [str(Path(self.root) / source) for source in SOURCES]
        if subprocess.run(command, check=False).returncode:  # noqa: S603 - the user's own compiler
            self.app.display_warning("the kernels did not compile: NumKong will be used")
            return
        made.replace(out)
        build_data["artifacts"].append(LIBRARY)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
