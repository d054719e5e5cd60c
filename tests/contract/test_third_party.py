"""The third-party contracts come whole from installed packages, without a network."""

import subprocess
import sys
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from protovalidate._gen.buf.validate import validate_pb

_SCRIPT = Path(__file__).parents[2] / "proto" / "third_party.py"


def test_the_printed_validate_proto_means_what_protovalidate_means(tmp_path: Path) -> None:
    subprocess.run([sys.executable, _SCRIPT, tmp_path], check=True)
    compiled = tmp_path / "validate.binpb"
    subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc", f"-I{tmp_path}"),
            *(f"--descriptor_set_out={compiled}", "buf/validate/validate.proto"),
        ],
        check=True,
    )
    (printed,) = FileDescriptorSet.FromString(compiled.read_bytes()).file
    assert printed == FileDescriptorProto.FromString(validate_pb._DESC.proto.to_binary())
