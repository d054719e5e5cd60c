"""The contract's face: proto in, operation or query, proto out; the one converter and the one error table."""
