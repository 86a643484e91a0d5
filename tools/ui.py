"""Serve MLflow's pages of the recorded runs on this computer: `python -m tools.ui [--port 5000]`.

It prints the address of every experiment and serves until Ctrl-C.
"""

import argparse
import os
import socket
import sys

from concertina import console
from concertina.tracking import mlflow_client

HOST = "127.0.0.1"
# Without telemetry, and without the processes that serve other uses of MLflow.
SETTINGS = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


@console.run
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=5000, help=f"on {HOST}")
    args = parser.parse_args(argv)
    address = mlflow_client.place() if mlflow_client.served() else f"http://{HOST}:{args.port}"
    pages = mlflow_client.experiments()
    if not pages:
        console.say(f"error: nothing is recorded at {mlflow_client.place()} yet; run `make reproduce`, or `make track`")
        return 1
    for name, page in pages.items():
        print(f"{name}: {address}{page}", flush=True)
    if mlflow_client.served():
        return 0
    with socket.socket() as probe:
        if probe.connect_ex((HOST, args.port)) == 0:
            console.say(f"error: port {args.port} is taken; choose another: make ui PORT={args.port + 1}")
            return 1
    # The address of a database may hold a password, which a command line would show to everybody.
    os.environ |= {**SETTINGS, "MLFLOW_BACKEND_STORE_URI": mlflow_client.uri()}
    server = ["-m", "mlflow", "server", "--host", HOST, "--port", str(args.port), "--workers", "1"]
    os.execv(sys.executable, [sys.executable, *server])


if __name__ == "__main__":
    raise SystemExit(main())
