"""A command on the search path of scripts: has a process of tests/forking.py run it.

    forked_command.py SOCKET NAME WORD…

Imports little, so that it begins at once.
"""

import json
import os
import socket
import sys

FORKED = ("fairseq_cli", "ka_fairseq", "benchmark")


def main() -> None:
    address, name, *words = sys.argv[1:]
    module = words[1] if words[:1] == ["-m"] else ""
    if name == "python" and module.partition(".")[0] not in FORKED:
        os.execv(sys.executable, [sys.executable, *words])
    folder = os.getcwd()  # noqa: PTH109  pathlib takes longer to import than all else
    asked = {"words": [name, *words], "folder": folder, "environment": dict(os.environ)}
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        socket.send_fds(connection, [b"."], [0, 1, 2])
        connection.sendall(json.dumps(asked).encode() + b"\n")
        code = int(connection.recv(16) or 1)
    if code < 0:
        os.kill(os.getpid(), -code)  # it was killed so
    sys.exit(code)


if __name__ == "__main__":
    main()
