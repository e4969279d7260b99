#!/usr/bin/env python3
"""Our library has every public symbol of libibverbs, at its version, and
exports nothing else but the hooks.

usage: symbols_test.py LIBNDSOFT [LIBIBVERBS]
"""

import re
import subprocess
import sys

# Public names of libibverbs that we leave to it.
LEFT_OUT = {
    # What providers call to register themselves with the real library.
    "ibv_register_driver",
}
# Public names since rdma-core 44 that take an object which may be ours. Those of
# the others that the installed libibverbs has are left to it.
NEWER = {
    "ibv_alloc_dmah": "IBVERBS_1.15",
    "ibv_reg_mr_ex": "IBVERBS_1.15",
    "ibv_query_port_speed": "IBVERBS_1.16",
    "ibv_alloc_buf": "IBVERBS_1.17",
    "ibv_reg_buf_mr": "IBVERBS_1.17",
    "_ibv_query_comp_cntr_caps": "IBVERBS_1.18",
    "ibv_create_comp_cntr": "IBVERBS_1.18",
    "ibv_qp_attach_comp_cntr": "IBVERBS_1.18",
}
LAST_WHOLE_NODE = 14  # of IBVERBS_1.*: from there on, see NEWER
# Names of ours without a version, so that a reference to any version finds
# them: libc's, and one of libibverbs' whose node differs between releases.
HOOKS = set(
    """
    open open64 __open __open64 __open_2 __open64_2
    openat openat64 __openat_2 __openat64_2
    close write __write dup dup2 dup3 fcntl fcntl64 __fcntl closefrom close_range
    fstat fstat64 __fxstat __fxstat64
    stat stat64 lstat lstat64 fstatat fstatat64 statx
    __xstat __xstat64 __lxstat __lxstat64 __fxstatat __fxstatat64
    access euidaccess eaccess faccessat
    fopen fopen64 readlink readlinkat __readlink_chk __readlinkat_chk
    realpath __realpath_chk canonicalize_file_name
    opendir closedir readdir readdir64 readdir_r readdir64_r
    dirfd rewinddir telldir seekdir
    dlopen
    """.split()
)
UNVERSIONED = HOOKS | {"ibv_query_gid_type"}

# The version in brackets where it is hidden: for old programs only.
LINE = re.compile(r"^[0-9a-f]+ .*\t[0-9a-f]+\s+(\(?[\w.]+\)?)\s+(?:\.\w+ )?(\S+)$")


def exported(library: str) -> dict[str, str]:
    """The version of each exported symbol; a node's own name is not one."""
    text = subprocess.run(
        ["objdump", "-T", library], check=True, capture_output=True, text=True
    ).stdout
    found = {}
    for line in text.splitlines():
        match = LINE.match(line)
        if match and "*UND*" not in line and "*ABS*" not in line:
            version, name = match.groups()
            if not version.startswith("("):
                found[name] = version
    return found


def public(symbols: dict[str, str]) -> dict[str, str]:
    return {
        name: version
        for name, version in symbols.items()
        if (node := re.fullmatch(r"IBVERBS_1\.(\d+)", version))
        and int(node.group(1)) <= LAST_WHOLE_NODE
        and name not in LEFT_OUT
    } | NEWER


def problems(ours: dict[str, str], real: dict[str, str]) -> list[str]:
    found = []
    for name, version in sorted(public(real).items()):
        if name not in ours:
            found.append(f"{name}@{version} is missing")
        elif ours[name] != version:
            found.append(f"{name} is at {ours[name]}, should be at {version}")
    for name, version in sorted(ours.items()):
        if name in UNVERSIONED:
            if version != "Base":
                found.append(f"{name}@{version} must have no version")
        elif name not in public(real):
            found.append(f"{name}@{version} is exported and should not be")
    found += [f"{name} is missing" for name in sorted(UNVERSIONED - ours.keys())]
    return found


def main(ours: str, real: str = "libibverbs.so.1") -> int:
    if "/" not in real:
        cache = subprocess.run(
            ["/sbin/ldconfig", "-p"], check=True, capture_output=True, text=True
        ).stdout
        real = re.search(rf"\b{re.escape(real)} .*=> (\S+)", cache).group(1)
    expected = exported(real)
    if len(public(expected)) < 50:
        print(f"{real} has too few public symbols to be libibverbs")
        return 1
    found = problems(exported(ours), expected)
    print("\n".join(found) or f"{len(public(expected))} public symbols are there")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
