"""Commands of schedulers, played on this machine: ``player.py NAME LOG ARGS...``.

They know the options that the examples use and refuse all others; what they were asked is a line
of JSON in LOG. Jobs run at once, one after another. A step on another node is a sleep, which is
there as long as its srun.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import NoReturn

BASH = shutil.which("bash") or "bash"
NODES = "127.0.0.1,node-b"
#: As in the manuals of Slurm 23.11; "=" says that an option has a value.
SBATCH = frozenset(
    {"--parsable", "--wait", "--partition=", "--export=", "--dependency=", "--job-name=",
     "--nodes=", "--ntasks=", "--ntasks-per-node=", "--gpus-per-node=", "--cpus-per-task=",
     "--time=", "--output=", "--constraint=", "--exclusive", "--mem="}
)  # fmt: skip
SRUN = frozenset({"--overlap", "--nodes=", "--ntasks=", "--nodelist=", "--gpus-per-node="})


def main(name: str, log: str, *words: str) -> int:
    asked: dict[str, object] = {"name": name, "words": words, "at": str(Path.cwd())}
    played = {
        "sbatch": sbatch, "srun": srun, "scontrol": scontrol, "python3": python3, "ray": ray
    }[name]  # fmt: skip
    return played(Path(log), asked, list(words))


def note(log: Path, asked: dict[str, object]) -> int:
    """Append to the log; returns the line's number, from 1."""
    with log.open("a", encoding="utf-8") as out:
        out.write(json.dumps(asked) + "\n")
    return len(log.read_text(encoding="utf-8").splitlines())


def options(words: list[str], known: frozenset[str]) -> dict[str, str]:
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if name + equals not in known:
            raise SystemExit(f"unrecognized option '{word}'")
        found[name] = value
    return found


def become(program: str, *words: str) -> NoReturn:
    os.execvp(program, [program, *words])  # noqa: S606 - in this process's place, as they do


# --- Slurm -------------------------------------------------------------------------------------


def sbatch(log: Path, asked: dict[str, object], words: list[str]) -> int:
    script = Path(words.pop())
    given = options(words, SBATCH)
    lines = script.read_text(encoding="utf-8").splitlines()
    inside = [line.split()[1] for line in lines if line.startswith("#SBATCH ")]
    asked["options"] = {**options(inside, SBATCH), **given}
    job = note(log, asked)
    # Slurm runs a copy of the script that lies somewhere else.
    with tempfile.TemporaryDirectory() as spool:
        copy = Path(spool, "slurm_script")
        shutil.copyfile(script, copy)
        there = {"SLURM_JOB_ID": str(job), "SLURM_SUBMIT_DIR": str(Path.cwd())}
        environment = {**os.environ, **there, "SLURM_JOB_NODELIST": NODES}
        with Path(f"job-{job}.log").open("wb") as out:
            status = subprocess.run(
                [BASH, copy], env=environment, stdout=out, stderr=out, cwd=spool, check=False
            ).returncode
    if "--parsable" in given:
        print(f"{job};cluster")
    return status if "--wait" in given else 0


def scontrol(log: Path, asked: dict[str, object], words: list[str]) -> int:
    if words != ["show", "hostnames", NODES]:
        raise SystemExit(f"scontrol {words}?")
    print("\n".join(NODES.split(",")))
    return 0


def srun(log: Path, asked: dict[str, object], words: list[str]) -> int:
    at = next(at for at, word in enumerate(words) if not word.startswith("--"))
    asked["options"] = options(words[:at], SRUN)
    asked |= {"command": words[at:], "pid": os.getpid()}
    note(log, asked)
    become("sleep", "600")


# --- Kubernetes, Ray -----------------------------------------------------------------------------


def python3(log: Path, asked: dict[str, object], words: list[str]) -> int:
    """The container's Python: makes environments in which nothing has to be installed."""
    if words[:2] == ["-m", "venv"]:
        place = Path(words[-1])
        venv.create(place, symlinks=True)
        program = place / "bin" / "python"
        program.unlink()
        again = f'exec {sys.executable} {__file__} python3 {log} "$@"'
        program.write_text(f"#!/bin/sh\n{again}\n", encoding="utf-8")
        program.chmod(0o755)
        return 0
    if words[:3] == ["-m", "pip", "install"]:
        note(log, asked)
        return 0
    become(sys.executable, *words)


def ray(log: Path, asked: dict[str, object], words: list[str]) -> int:
    """``ray job submit`` runs the entry point in a copy of the working directory, and ends with 1
    for whatever it ended with (Ray 2.60, dashboard/modules/job/cli.py)."""
    at = words.index("--")
    given = dict(zip(words[2:at:2], words[3:at:2], strict=True))
    if words[:2] != ["job", "submit"]:
        raise SystemExit(f"ray {words}?")
    note(log, asked | {"options": given})
    with tempfile.TemporaryDirectory() as copy:
        shutil.copytree(given["--working-dir"], copy, dirs_exist_ok=True)
        return int(subprocess.run(words[at + 1 :], cwd=copy, check=False).returncode != 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
