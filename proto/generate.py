"""Generates gen/ from proto/: messages, typed stubs, services. Decides nothing about what the contracts say.

    python proto/generate.py           write gen/
    python proto/generate.py --check   change nothing; exit 1 and say what differs when gen/ does not match proto/

Needs no network: protoc, its plugins and the third-party .proto files come from installed packages.
"""

import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_PROTO = _ROOT / "proto"
_GEN = _ROOT / "gen"
_THIRD_PARTY = _ROOT / ".cache" / "proto"

# Imported packages that are generated here too: Python code of theirs is not installed with anything.
_OURS = ("assent", "buf")
_IMPORT = re.compile(rf"^(from|import) ({'|'.join(_OURS)})\b", re.MULTILINE)
_MODULE_NAME = re.compile(rf"'((?:{'|'.join(_OURS)})[\w.]*_pb2)'")
_INIT = '"""Generated from proto/ by proto/generate.py."""\n'


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        fresh = _generate(Path(folder))
    if "--check" not in arguments:
        _write(fresh)
        return 0
    different = _differences(fresh)
    for line in different:
        print(line)
    if different:
        print("gen/ does not match proto/: run `make generate` and commit the result")
    return 1 if different else 0


def _generate(folder: Path) -> dict[str, str]:
    """What gen/ must hold: path inside it → content."""
    subprocess.run([sys.executable, _PROTO / "third_party.py", _THIRD_PARTY], check=True)
    _protoc(folder)
    files = {str(path.relative_to(folder)): _rooted(path.read_text("utf-8")) for path in folder.rglob("*.py*")}
    # Third-party messages have no services, and a file without services has nothing to say in a _grpc module.
    files = {name: text for name, text in files.items() if "_grpc." not in name or "_service_" in name}
    packages = {Path("."), *(parent for name in files for parent in Path(name).parents)}
    return files | {str(package / "__init__.py"): _INIT for package in packages} | {"py.typed": ""}


def _protoc(folder: Path) -> None:
    ours = sorted(str(path.relative_to(_PROTO)) for path in _PROTO.rglob("*.proto"))
    scripts = sysconfig.get_path("scripts")
    subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc", f"-I{_PROTO}", f"-I{_THIRD_PARTY}"),
            *(f"--python_out={folder}", f"--grpc_python_out={folder}"),
            *(f"--mypy_out=quiet:{folder}", f"--mypy_grpc_out=quiet,only_async:{folder}"),
            *(*ours, "buf/validate/validate.proto"),
        ],
        check=True,
        env={**os.environ, "PATH": os.pathsep.join([scripts, os.environ.get("PATH", "")])},
    )


def _rooted(text: str) -> str:
    """The same module as a part of the package `gen`."""
    return _MODULE_NAME.sub(r"'gen.\1'", _IMPORT.sub(r"\1 gen.\2", text))


def _existing() -> dict[str, str]:
    paths = [path for path in _GEN.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {str(path.relative_to(_GEN)): path.read_text("utf-8") for path in paths}


def _differences(fresh: dict[str, str]) -> list[str]:
    found = _existing()
    lines = [f"gen/{name}: missing" for name in fresh.keys() - found.keys()]
    lines += [f"gen/{name}: no longer generated" for name in found.keys() - fresh.keys()]
    lines += [f"gen/{name}: differs" for name in fresh.keys() & found.keys() if fresh[name] != found[name]]
    return sorted(lines)


def _write(fresh: dict[str, str]) -> None:
    """Touches only what changes, so that a running test or a watching tool sees no needless change."""
    found = _existing()
    for name in found.keys() - fresh.keys():
        (_GEN / name).unlink()
    for name, text in fresh.items():
        if found.get(name) != text:
            path = _GEN / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
