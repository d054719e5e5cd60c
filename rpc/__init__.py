"""What the three processes of Assent share about being a gRPC service; nothing of what any of them does.

- `rpc.server`     Server(name, address, [Service(name, servicer, add_fn)], translate=…): start, drain, stop
- `rpc.problem`    Problem: an error meant for the caller, to google.rpc.Status and back from an AioRpcError
- `rpc.principal`  current_principal(): who the request acts for; acting_as(…) outside one
- `rpc.channel`    connect(address): a client channel with keepalive, limits and the trace carried along
- `rpc.tracing`    span(…), current_trace_id(), current_traceparent(); OTLP when configured
- `rpc.metrics`    TRANSACTION_DURATION and the RPC metrics, render(), MetricsServer(address)
- `rpc.logs`       configure(service), bind(session_id=…), get_logger via structlog
- `rpc.shutdown`   run_until_signal(…): SIGTERM and SIGINT to an orderly stop
- `rpc.memory`     tend(): garbage is looked for rarely once the service has started
- `rpc.settings`   tell_wrong_settings(error): how a process says which of its settings is wrong
- `rpc.addresses`  parse_address("host:port"), is_loopback
- `rpc.probe`      python -m rpc.probe HOST:PORT: exits 0 when it is SERVING

Inside: `rpc.serving` composes what each call passes through: `rpc.telemetry`, `rpc.errors`, `rpc.principal`,
`rpc.validation` (with `rpc.list_limits`); `rpc.method` reads what the contract says of an RPC; `rpc.health`
is the health service.
"""

import os

# grpc's C core writes notes of its own to standard error, past our logs ("Got goaway" at every stop). It reads
# this when it is first imported, and every process imports something of rpc.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
