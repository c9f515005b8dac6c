"""Says in one line what this host lacks for building StratoVirt; silent and 0 when it lacks nothing."""

import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

MINIMUM_PYTHON = (3, 11)


def missing() -> list[str]:
    """What is missing, each with the way to get it."""
    lacks = []
    if sys.version_info < MINIMUM_PYTHON:
        lacks.append(f"Python 3.11 or newer (this is {platform.python_version()}; try PYTHON=python3.12)")
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        lacks.append(f"an x86_64 Linux host (this is {platform.machine()} {sys.platform})")
    if not (shutil.which("cc") or shutil.which("gcc")):
        lacks.append("a C compiler (apt-get install gcc libc6-dev)")
    if not Path("/usr/include/linux/kvm.h").exists():
        lacks.append("the kernel's headers (apt-get install linux-libc-dev)")
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").exists():
        lacks.append("Python's headers (apt-get install python3-dev)")
    if subprocess.run([sys.executable, "-c", "import venv, ensurepip"], capture_output=True).returncode:
        lacks.append("Python's venv module (apt-get install python3-venv)")
    return lacks


if __name__ == "__main__":
    if lacks := missing():
        sys.exit("stratovirt cannot be built here; missing: " + "; ".join(lacks))
