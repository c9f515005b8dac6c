"""The three C extensions; everything else about the package is in pyproject.toml.

setuptools has no declarative form for cffi's API mode, so this keyword is the whole reason for the file.
"""

from setuptools import setup

setup(
    cffi_modules=[
        "src/stratovirt/native/_build.py:ffi",
        "src/stratovirt/accel/kvm/_build.py:ffi",
        "src/stratovirt/accel/tcg/_build.py:ffi",
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},  # as cffi compiles them: for all later Pythons
)
