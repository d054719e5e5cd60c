"""Whether a tool call is the one that was approved. Whether it had to be is the orchestrator's to know."""

from executor.tools.arguments import sha256_hex

_NAMED = ("step", "tool", "schema_digest", "arguments_sha256")


def mismatch(preimage: str, step_id: str, tool: str, schema_digest: str, arguments_json: str) -> str:
    """What the approved text names otherwise than this call; empty when it names exactly this call.

    The preimage is lines of `key: value`, each key once.
    """
    named: dict[str, str] = {}
    for line in preimage.splitlines():
        key, colon, value = line.partition(": ")
        if not colon or key in named:
            return "form"
        named[key] = value
    call = dict(zip(_NAMED, (step_id, tool, schema_digest, sha256_hex(arguments_json)), strict=True))
    if not schema_digest:
        del call["schema_digest"]
    return next((key for key, value in call.items() if named.get(key) != value), "")
