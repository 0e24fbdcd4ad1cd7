"""A private SLURM of two nodes on this machine."""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

DAEMONS = ("munged", "slurmctld", "slurmd")
NODES = ("ka1", "ka2")

CONF = """\
ClusterName=ka
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmctldPort={port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
MinJobAge=3600
PartitionName=all Nodes={nodes} Default=YES MaxTime=INFINITE State=UP
"""


def found(name: str) -> str | None:
    """A daemon's program: /usr/sbin is not on every user's PATH."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Cluster:
    """What is done on it; its commands find it by SLURM_CONF."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {
            **os.environ,
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
        }

    def run(self, *words: object, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command of SLURM's; its output, once it has ended well."""
        result = subprocess.run(
            [str(word) for word in words],
            env={**self.env, **env},
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
        return result

    def submit(self, script: str, *options: str) -> int:
        """Submit a shell script; return the job's number."""
        log = self.folder / "job-%A-%a.log"
        words = ("sbatch", "--parsable", f"--output={log}", "--wrap", script, *options)
        return int(self.run(*words).stdout)

    def state(self, job: int) -> Mapping[str, str]:
        """What SLURM knows of a job."""
        told = self.run("scontrol", "show", "job", job, "--oneliner").stdout.split("\n")[0]
        return dict(word.split("=", 1) for word in told.split() if "=" in word)

    def ended(self, job: int, seconds: float = 300) -> str:
        """Wait for the end of a job; return its state."""
        end = time.monotonic() + seconds
        while (state := self.state(job)["JobState"]) in ("PENDING", "RUNNING", "COMPLETING"):
            assert time.monotonic() < end, f"job {job} is still {state}"
            time.sleep(1)
        return state


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if missing := [name for name in DAEMONS if not found(name)]:
        pytest.skip(f"no SLURM here (no {missing[0]}): Debian's packages are slurm-wlm and munge")
    folder = tmp_path_factory.mktemp("slurm")
    folder.chmod(0o755)  # munged asks for it of where its socket is
    (folder / "state").mkdir()
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    host, nodes = socket.gethostname().split(".")[0], ",".join(NODES)
    facts = {"host": host, "user": getpass.getuser(), "folder": folder, "nodes": nodes}
    lines = [
        f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={free_port()} CPUs=1"
        for node in NODES
    ]
    conf = CONF.format(**facts, port=free_port()).split("PartitionName")
    (folder / "slurm.conf").write_text(conf[0] + "\n".join(lines) + "\nPartitionName" + conf[1])
    made = Cluster(folder)
    words = {"socket": "munge.socket", "key-file": key.name, "pid-file": "munged.pid"}
    words |= {"log-file": "munged.log", "seed-file": "munge.seed"}
    made.run(found("munged"), "--force", *(f"--{key}={folder / at}" for key, at in words.items()))
    try:
        made.run(found("slurmctld"))
        for node in NODES:
            made.run(found("slurmd"), "-N", node)
        yield made
    finally:
        for file in folder.glob("*.pid"):
            stop(int(file.read_text()))


def stop(pid: int) -> None:
    """End a daemon, and wait until it has ended."""
    for _ in range(50):
        try:
            os.kill(pid, 15)
        except ProcessLookupError:
            return
        time.sleep(0.2)
    os.kill(pid, 9)
