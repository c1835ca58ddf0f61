"""Generate engine/onecard/v1 from the protos, with the compiler that grpcio-tools carries.

    python tools/generate.py [TARGET]

TARGET is the folder that `onecard/v1` is put into; by default it is `engine`. The files there are
replaced, so that nothing outlives its proto.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "grpc"
PACKAGE = '"""Messages and services, generated from grpc/onecard/v1 by `make generate`."""\n'


def generate(target: Path) -> None:
    """Write the package `onecard/v1` below `target`."""
    folder = target / "onecard" / "v1"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(PACKAGE)
    protos = sorted((PROTOS / "onecard" / "v1").glob("*.proto"))
    services = [proto for proto in protos if "\nservice " in proto.read_text()]
    _protoc(protos, f"--python_out={target}", f"--mypy_out=quiet:{target}")
    _protoc(services, f"--grpc_python_out={target}", f"--mypy_grpc_out=quiet:{target}")


def _protoc(protos: list[Path], *outputs: str) -> None:
    # The plugins for typed stubs stand beside the interpreter.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}", *outputs, *map(str, protos)]
    subprocess.run(command, check=True, env=os.environ | {"PATH": path})


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "engine")
