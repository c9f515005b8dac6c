"""Debian packages without root: found in apt's lists, downloaded, unpacked into a directory of their own.

The law: nothing is installed, and nothing of ours is written outside the cache directory. Where the
system's package lists are of no use, as in a fresh container, lists of our own are fetched into it. An
unpacked package appears under its name in one rename: an interrupted download never passes for a whole one.
"""

import hashlib
import logging
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from stratovirt.errors import ConfigError

log = logging.getLogger(__name__)

DOCUMENTATION = tuple(f"usr/share/{name}" for name in ("bug", "doc", "info", "lintian", "locale", "man"))
NETWORK_TIMEOUT = 30  # seconds without data; apt's own default is 120, longer than people wait


class Debian:
    """The package archive that this host's apt is configured for.

    :param cache: directory that unpacked packages, and lists of our own, are kept in.
    """

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self._options: tuple[str, ...] = ()

    def obtain(self, *patterns: str) -> Path | None:
        """The files of a package whose name matches; none if the archive has no such package.

        The first pattern that any name matches decides, and of those the highest version. Where the
        system's lists do not know it, or know one that the archive has dropped since, lists are fetched.

        :param patterns: regular expressions that mean the same to POSIX and to Python.
        :raise ConfigError: this host has no apt, or the package cannot be downloaded or unpacked.
        """
        gone: ConfigError | None = None
        if package := self._newest(patterns):
            try:
                return self.unpack(package)
            except ConfigError as error:
                gone = error
        self._fetch_lists()
        if package := self._newest(patterns):
            return self.unpack(package)
        if gone:
            raise gone
        return None

    def unpack(self, package: str) -> Path:
        """The directory with the files of ``package``, downloaded now if it is not there yet.

        :raise ConfigError: it cannot be downloaded or unpacked.
        """
        target = self.cache / package
        if target.is_dir():
            return target
        self.cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.cache, prefix=".unpack-") as scratch:
            [archive] = self._download([package], Path(scratch))
            log.info("unpacking %s", archive.name)
            self._run("dpkg-deb", "-x", str(archive), f"{scratch}/files")
            _publish(Path(scratch, "files"), target)
        return target

    def unpack_with_needed(self, packages: Iterable[str]) -> Path:
        """One directory with the files of ``packages`` and of all that they depend on, as apt resolves it.

        No script of a package is run. What nobody reads on a small machine (DOCUMENTATION) is left out.

        :raise ConfigError: apt knows no such package, or cannot download or unpack one.
        """
        wanted = sorted(set(packages))
        target = self.cache / f"packages-{hashlib.sha256(' '.join(wanted).encode()).hexdigest()[:8]}"
        if target.is_dir():
            return target
        self.cache.mkdir(parents=True, exist_ok=True)
        try:
            needed = self._needed(wanted)
        except ConfigError:
            if self._options:
                raise
            self._fetch_lists()
            needed = self._needed(wanted)
        with tempfile.TemporaryDirectory(dir=self.cache, prefix=".unpack-") as scratch:
            self._unpack_all(needed, Path(scratch))
            _publish(Path(scratch, "files"), target)
        return target

    def _needed(self, packages: Sequence[str]) -> list[str]:
        """``packages`` and what they depend on: what apt would install where nothing is installed yet."""
        with tempfile.NamedTemporaryFile(dir=self.cache, prefix=".status-") as nothing:
            settings = (f"Dir::State::status={nothing.name}", "APT::Install-Recommends=false")
            options = [word for setting in settings for word in ("-o", setting)]
            plan = self._run("apt-get", *self._options, *options, "--simulate", "install", *packages)
        return [line.split()[1] for line in plan.splitlines() if line.startswith("Inst ")]

    def _unpack_all(self, packages: Sequence[str], scratch: Path) -> None:
        archives = self._download(packages, scratch)
        files = scratch / "files"
        log.info("unpacking %d packages", len(archives))
        for archive in archives:
            self._run("dpkg-deb", "-x", str(archive), str(files))
        for path in DOCUMENTATION:
            shutil.rmtree(files / path, ignore_errors=True)

    def _newest(self, patterns: tuple[str, ...]) -> str | None:
        matches = (self._search(pattern) for pattern in patterns)
        return max(next(filter(None, matches), ()), key=version_key, default=None)

    def _search(self, pattern: str) -> list[str]:
        listing = self._run("apt-cache", *self._options, "search", "--names-only", f"^{pattern}$")
        names = (line.partition(" ")[0] for line in listing.splitlines())
        return [name for name in names if re.fullmatch(pattern, name)]

    def _download(self, packages: Sequence[str], directory: Path) -> list[Path]:
        several = len(packages) > 1
        log.info(
            "downloading %s",
            f"{len(packages)} Debian packages" if several else f"the Debian package {packages[0]}",
        )
        options = (
            *self._options,
            "-q",
            "-o",
            "APT::Sandbox::User=",
            "-o",
            f"Acquire::http::Timeout={NETWORK_TIMEOUT}",
        )
        self._run("apt-get", *options, "download", *packages, directory=directory)
        return sorted(directory.glob("*.deb"))

    def _fetch_lists(self) -> None:
        log.info("fetching package lists: the system's are empty or out of date")
        state = self.cache.resolve() / "apt"
        for name in ("lists/partial", "archives/partial"):
            (state / name).mkdir(parents=True, exist_ok=True)
        directories = {"State::Lists": "lists", "Cache": ".", "Cache::Archives": "archives"}
        settings = [f"Dir::{name}={state / where}" for name, where in directories.items()]
        settings += ["APT::Sandbox::User=", f"Acquire::http::Timeout={NETWORK_TIMEOUT}"]
        self._options = tuple(word for setting in settings for word in ("-o", setting))
        self._run("apt-get", *self._options, "-q", "update")

    def _run(self, *command: str, directory: Path | None = None) -> str:
        if shutil.which(command[0]) is None:
            raise ConfigError(
                f"{command[0]} is not installed: this is no Debian, so name a kernel (KERNEL=…)"
            )
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ConfigError(f"{' '.join(_words(command))}: {_reason(done.stderr)}")
        return done.stdout


def version_key(name: str) -> list[int]:
    """Orders names by the numbers in them: 6.1.0-56 comes after 6.1.0-9."""
    return [int(digits) for digits in re.findall(r"\d+", name)]


def _words(command: tuple[str, ...]) -> list[str]:
    """The command without its settings, for a message of one line."""
    return [word for word in command if not word.startswith("-") and "::" not in word]


def _reason(stderr: str) -> str:
    """The first complaint; apt's begin with ``E: ``."""
    lines = [line.removeprefix("E: ") for line in stderr.splitlines() if not line.startswith("W: ")]
    return next(iter(lines), "failed without saying why")


def _publish(files: Path, target: Path) -> None:
    try:
        files.rename(target)
    except OSError:
        if not target.is_dir():  # otherwise another run was first with the same package
            raise
