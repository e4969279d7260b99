"""Prepares the kernel and the initramfs that a guest boots.

A directory holds everything, each part under a name that tells what it was
made from; a part that exists is complete, because it was built aside and then
renamed:
    package.json      which kernel package linux-image-amd64 means, so that apt
                      is asked again only when its lists have changed
    kernel-KEY/       vmlinux, and the modules to load in their order
    initramfs-KEY     the cpio archive
"""

import contextlib
import fcntl
import hashlib
import json
import lzma
import os
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
GUEST_FILES = ("agent.py", "init", "network.sh")

# Loaded before the host's root is mounted, and beside the agent's start.
MODULES = {
    "root": ("virtio_pci", "9pnet_virtio", "9p", "overlay", "virtio_console"),
    # rxe asks the crypto API for "crc32" by name: modprobe cannot know.
    "rdma": ("crc32_generic", "rdma_rxe", "ib_uverbs", "rdma_ucm", "ib_umad",
             "virtio_net", "veth", "dummy", "sch_netem", "sch_tbf",
             # What loses packets that come by the tap.
             "ifb", "sch_ingress", "cls_matchall", "act_mirred"),
}

META_PACKAGE = "linux-image-amd64"
APT_LISTS = Path("/var/lib/apt/lists")
STALE_S = 3600.0
SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


class GuestError(Exception):
    """The guest, not the command in it, has failed."""


@dataclass(frozen=True)
class Package:
    """The kernel's package, for example linux-image-6.1.0-56-amd64."""

    name: str
    version: str

    @property
    def release(self) -> str:
        return self.name.removeprefix("linux-image-")


@dataclass(frozen=True)
class Image:
    kernel: Path
    initramfs: Path


def prepare(directory: Path) -> Image:
    """Makes the image unless it is there; safe against a concurrent call."""
    directory.mkdir(parents=True, exist_ok=True)
    package = find_package(directory)
    kernel_dir = directory / f"kernel-{kernel_key(package)}"
    image = Image(kernel_dir / "vmlinux",
                  directory / f"initramfs-{initramfs_key(kernel_dir)}")
    if image.kernel.exists() and image.initramfs.exists():
        return image
    with locked(directory / "lock"):
        if not kernel_dir.exists():
            build_kernel(package, kernel_dir)
        if not image.initramfs.exists():
            build_initramfs(kernel_dir, image.initramfs)
        remove_stale(directory, keep=(kernel_dir, image.initramfs))
    return image


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def scratch(target: Path) -> Iterator[Path]:
    """A directory beside the target, from which the result is renamed."""
    path = Path(tempfile.mkdtemp(prefix="tmp-", dir=target.parent))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def write_atomically(path: Path, text: str) -> None:
    with scratch(path) as aside:
        (aside / path.name).write_text(text, encoding="utf-8")
        (aside / path.name).rename(path)


def tool(*argv: str | Path, cwd: Path | None = None,
         stdin: str | None = None) -> str:
    """Runs one of the system's tools and returns what it prints."""
    path = f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}"
    environment = {**os.environ, "PATH": path, "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(
            [shutil.which(argv[0], path=path) or argv[0], *argv[1:]],
            cwd=cwd, env=environment, input=stdin, text=True,
            capture_output=True, check=False)
    except FileNotFoundError:
        raise GuestError(f"{argv[0]} is not installed") from None
    if done.returncode != 0:
        command = " ".join(str(word) for word in argv)
        raise GuestError(f"{command} failed:\n{done.stderr.strip()}")
    return done.stdout


def digest(*parts: str | bytes) -> str:
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        sha.update(len(data).to_bytes(8, "little") + data)
    return sha.hexdigest()[:16]


def kernel_key(package: Package) -> str:
    return digest(package.name, package.version, json.dumps(MODULES))


def initramfs_key(kernel_dir: Path) -> str:
    return digest(kernel_dir.name, Path(__file__).read_bytes(),
                  *((HERE / name).read_bytes() for name in GUEST_FILES))


def find_package(directory: Path) -> Package:
    """Which package the meta package depends on, remembered in `directory`."""
    memory = directory / "package.json"
    stamp = APT_LISTS.stat().st_mtime_ns if APT_LISTS.exists() else 0
    known = None
    with contextlib.suppress(OSError, ValueError):
        known = json.loads(memory.read_text(encoding="utf-8"))
    if known and known["stamp"] == stamp:
        return Package(known["name"], known["version"])
    package = ask_apt()
    if package is None and known:  # the lists are gone: use what is here
        return Package(known["name"], known["version"])
    if package is None:
        raise GuestError(f"apt knows no {META_PACKAGE}: run apt-get update")
    write_atomically(memory, json.dumps(
        {"stamp": stamp, "name": package.name, "version": package.version}))
    return package


def ask_apt() -> Package | None:
    """Reads `Depends: linux-image-6.1.0-56-amd64 (= 6.1.192-2)`."""
    try:
        shown = tool("apt-cache", "show", "--no-all-versions", META_PACKAGE)
    except GuestError:
        return None
    for line in shown.splitlines():
        if line.startswith("Depends: linux-image-"):
            words = line.split(",")[0].split()
            return Package(words[1], words[3].rstrip(")"))
    return None


def build_kernel(package: Package, kernel_dir: Path) -> None:
    with scratch(kernel_dir) as aside:
        tool("apt-get", "-q", "-o", "APT::Sandbox::User=root", "download",
             f"{package.name}={package.version}", cwd=aside)
        tree, result = aside / "tree", aside / "result"
        tool("dpkg", "-x", next(aside.glob("*.deb")), tree)
        tool("depmod", "-b", tree, package.release)
        result.mkdir()
        collect_modules(tree, package.release, result)
        vmlinuz = (tree / "boot" / f"vmlinuz-{package.release}").read_bytes()
        (result / "vmlinux").write_bytes(unpack_kernel(vmlinuz))
        result.rename(kernel_dir)


def collect_modules(tree: Path, release: str, result: Path) -> None:
    """Copies the modules and what they need, numbered in loading order."""
    taken: set[Path] = set()
    for folder, names in MODULES.items():
        (result / folder).mkdir()
        for module in in_loading_order(tree, release, names):
            if module not in taken:
                name = f"{len(taken):03}-{module.name}"
                shutil.copy(module, result / folder / name)
                taken.add(module)


def in_loading_order(tree: Path, release: str,
                     names: tuple[str, ...]) -> Iterator[Path]:
    for name in names:
        shown = tool("modprobe", "-S", release, "-d", tree, "--show-depends",
                     name)
        for line in shown.splitlines():
            words = line.split()  # "insmod PATH OPTIONS" or "builtin NAME"
            if words[0] == "insmod":
                yield Path(words[1])


def unpack_kernel(vmlinuz: bytes) -> bytes:
    """The ELF kernel inside a bzImage, which QEMU enters directly (PVH).

    Unpacking here takes a second, on an emulated CPU three. A kernel that is
    not packed with xz stays as it is and unpacks itself.
    """
    setup_sectors = vmlinuz[0x1F1]
    offset, length = struct.unpack_from("<II", vmlinuz, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    try:
        # Four bytes of length follow the xz stream.
        unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ)
        return unpacker.decompress(vmlinuz[start : start + length])
    except lzma.LZMAError:
        return vmlinuz


def build_initramfs(kernel_dir: Path, initramfs: Path) -> None:
    with scratch(initramfs) as aside:
        tree = aside / "tree"
        guest = tree / "guest"
        (tree / "bin").mkdir(parents=True)
        shutil.copy(static_busybox(), tree / "bin" / "busybox")
        shutil.copy(HERE / "init", tree / "init")
        for folder in MODULES:
            shutil.copytree(kernel_dir / folder, guest / "modules" / folder)
        for name in GUEST_FILES:
            shutil.copy(HERE / name, guest / name)
        for path in (tree / "init", tree / "bin" / "busybox"):
            path.chmod(0o755)
        names = sorted(str(path.relative_to(tree)) for path in tree.rglob("*"))
        tool("cpio", "-o", "-H", "newc", "-R", "0:0", "--quiet",
             "-O", aside / "archive", cwd=tree, stdin="\n".join(names) + "\n")
        (aside / "archive").rename(initramfs)


def static_busybox() -> str:
    path = shutil.which("busybox", path=SYSTEM_PATH)
    if path is None or b"/ld-linux" in Path(path).read_bytes():
        raise GuestError("busybox-static is not installed")
    return path


def remove_stale(directory: Path, keep: tuple[Path, ...]) -> None:
    """Removes old parts, but none that a guest may be about to boot from."""
    for pattern in ("kernel-*", "initramfs-*", "tmp-*"):
        for path in directory.glob(pattern):
            if path in keep or time.time() - path.stat().st_mtime < STALE_S:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
