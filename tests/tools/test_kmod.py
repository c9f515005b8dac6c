"""Modules load after all that they need, whatever file format holds them."""

import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from stratovirt.errors import ConfigError
from stratovirt.tools.kmod import ModuleTree
from tests.tools.samples import kernel_module, module_directory

VIRTIO = {
    "virtio_ring": (),
    "virtio": ("virtio_ring",),
    "virtio_blk": ("virtio_ring", "virtio"),
    "virtio_mmio": ("virtio", "virtio_ring"),
}


def test_what_a_module_needs_loads_before_it(tmp_path: Path) -> None:
    tree = ModuleTree(module_directory(tmp_path, VIRTIO))
    assert tree.load_order(["virtio_blk", "virtio_mmio"]) == [
        "virtio_ring",
        "virtio",
        "virtio_blk",
        "virtio_mmio",
    ]


def test_no_module_loads_twice(tmp_path: Path) -> None:
    tree = ModuleTree(module_directory(tmp_path, VIRTIO))
    assert tree.load_order(["virtio", "virtio", "virtio_ring"]) == ["virtio_ring", "virtio"]


def test_what_is_built_in_is_not_loaded(tmp_path: Path) -> None:
    needs = {"virtio_net": ("net_failover",)}
    tree = ModuleTree(module_directory(tmp_path, needs, builtin="kernel/net/core/net-failover.ko\n"))
    assert tree.load_order(["virtio_net", "net_failover"]) == ["virtio_net"]


def test_dash_and_underscore_are_the_same(tmp_path: Path) -> None:
    tree = ModuleTree(module_directory(tmp_path, {"virtio-rng": ("rng-core",), "rng-core": ()}))
    assert "virtio_rng" in tree
    assert tree.load_order(["virtio_rng"]) == ["rng_core", "virtio_rng"]


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [(".ko.gz", gzip.compress), (".ko.xz", lzma.compress), (".ko.zst", zstandard.ZstdCompressor().compress)],
)
def test_compressed_modules_are_read_decompressed(
    tmp_path: Path, suffix: str, compress: Callable[[bytes], bytes]
) -> None:
    directory = module_directory(tmp_path, {"virtio_ring": ()})
    (directory / f"kernel/virtio{suffix}").write_bytes(compress(kernel_module("virtio_ring")))
    tree = ModuleTree(directory)
    assert tree.depends("virtio") == ["virtio_ring"]
    assert tree.read("virtio") == kernel_module("virtio_ring")
    assert tree.path("virtio") == "kernel/virtio.ko"


def test_modules_dep_lists_what_loads_last_first(tmp_path: Path) -> None:
    tree = ModuleTree(module_directory(tmp_path, VIRTIO))
    listing = tree.dependency_file(["virtio_ring", "virtio_blk"])
    assert listing == "kernel/virtio_ring.ko:\nkernel/virtio_blk.ko: kernel/virtio.ko kernel/virtio_ring.ko\n"


def test_a_module_that_is_missing_is_named_with_the_directory(tmp_path: Path) -> None:
    tree = ModuleTree(module_directory(tmp_path, {"virtio": ("virtio_ring",)}))
    with pytest.raises(ConfigError, match=r"no kernel module 'virtio_ring' in .*6\.1\.0-test"):
        tree.load_order(["virtio"])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cut.ko", kernel_module()[:-60]),
        ("cut.ko.xz", b"no xz"),
        ("cut.ko.gz", b"\x1f\x8b"),
        ("cut.ko.zst", b"no zstd"),
    ],
)
def test_a_damaged_module_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    directory = module_directory(tmp_path, {})
    (directory / "kernel" / name).write_bytes(content)
    with pytest.raises(ConfigError, match=rf"{name}: not a kernel module"):
        ModuleTree(directory).load_order(["cut"])
