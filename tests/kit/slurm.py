"""Slurm on this machine alone: a controller and a node, in a folder, by the programs that are installed."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "squeue")

CONFIGURATION = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser=root
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdParameters=config_overrides
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=16000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def slurm_absent() -> str:
    """Why there can be no Slurm here; "" if there can be one."""
    if absent := [name for name in PROGRAMS if not (shutil.which(name) or shutil.which(name, path="/usr/sbin"))]:
        return f"{absent[0]} is not installed: apt install slurmctld slurmd slurm-client munge"
    return "" if os.getuid() == 0 else "Slurm's daemons need root here"


class Slurm:
    """A Slurm that runs.

    Args:
        folder: of its files.
        variables: of the environment of all jobs.
    """

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = {**os.environ, **variables, "SLURM_CONF": str(folder / "slurm.conf")}

    def run(self, *command: object) -> str:
        """What a program of Slurm's prints.

        Raises:
            CalledProcessError: it failed.
        """
        words = [str(word) for word in command]
        done = subprocess.run(
            words, env=self._environment, cwd=self._folder, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def submit(self, script: Path, options: Sequence[str], *arguments: str) -> str:
        """Submit a script that takes a core, no GPU and little memory, whatever it asks for; the number of its job."""
        small = ["--gres=none", "--cpus-per-task=1", "--mem=2G", "--parsable", "--output=%A_%a.txt"]
        return self.run("sbatch", *small, *options, script, *arguments)

    def active(self, job: str) -> bool:
        """Whether a job, or one of an array, waits or works."""
        return bool(self.run("squeue", "--noheader", "--states=PD,R,CG,CF", f"--jobs={job}"))

    def wait(self, job: str, seconds: float) -> str:
        """Wait until a job has ended.

        Args:
            job: its number.
            seconds: at most.

        Returns:
            what it, and those of its array, have printed.
        """
        until = time.monotonic() + seconds
        while self.active(job) and time.monotonic() < until:
            time.sleep(0.5)
        assert not self.active(job), f"job {job} did not end within {seconds:.0f} s: {self.printed(job)}"
        return self.printed(job)

    def printed(self, job: str) -> str:
        """What a job, and those of its array, have printed so far."""
        return "".join(path.read_text() for path in sorted(self._folder.glob(f"{job}_*.txt")))


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def slurm(folder: Path, variables: Mapping[str, str]) -> Iterator[Slurm]:
    """A Slurm while the context lasts.

    Args:
        folder: of its files; its name must be short, since it holds a socket.
        variables: of the environment of all jobs.
    """
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o600)
    host = socket.gethostname().split(".")[0]
    ports = {"controller": free_port(), "node": free_port()}
    (folder / "slurm.conf").write_text(CONFIGURATION.format(host=host, folder=folder, **ports))
    files = {"key-file": key, "socket": "munge.socket", "log-file": "munge.log", "seed-file": "munge.seed"}
    munge = ["munged", "--foreground", "--force", *(f"--{name}={folder / path}" for name, path in files.items())]
    path = f"{os.environ['PATH']}:/usr/sbin"
    environment = {**os.environ, **variables, "SLURM_CONF": str(folder / "slurm.conf"), "PATH": path}
    daemons = []
    with (folder / "daemons.log").open("w") as log:
        try:
            for command in ([*munge, f"--pid-file={folder / 'munge.pid'}"], ["slurmctld", "-D"], ["slurmd", "-D"]):
                daemons.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
                time.sleep(1)
            one = Slurm(folder, variables)
            yield one
            one.run("scancel", "--user=root")
        finally:
            for daemon in reversed(daemons):
                daemon.terminate()
                daemon.wait(30)
