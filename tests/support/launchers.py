"""Stand-ins for what launches a run (a trainer, srun, gcloud), as programs in a folder that is put first on the PATH."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.support import ROOT

JOBS = ROOT / "jobs"

# Takes the place of python. Each start notes its number and arguments in `log`, and ends with its code in `plan`: a line for
# each start, with the codes of all processes (`wait`: 143, after a SIGTERM).
TRAINER = r"""
number=${JAX_PROCESS_ID:-${SLURM_PROCID:-0}}
start=$(($(cat "$STANDIN/starts.$number" 2> /dev/null || echo 0) + 1))
echo $start > "$STANDIN/starts.$number"
echo "$number $*" >> "$STANDIN/log"
echo "${JAX_COORDINATOR_ADDRESS:-}" > "$STANDIN/coordinator.$number"
code=$(sed -n "${start}p" "$STANDIN/plan" | cut -d' ' -f$((number + 1)))
[ "$code" = wait ] || exit "$code"
trap 'exit 143' TERM
touch "$STANDIN/waiting.$number"
while true; do sleep 0.02; done
"""

# Starts the tasks, each in a process group of its own, and returns their highest code; a SIGTERM kills them, as in Slurm.
SRUN = r"""
while [[ $1 == --* ]]; do shift; done
pids=()
for ((i = 0; i < SLURM_NTASKS; i++)); do
  SLURM_PROCID=$i SLURM_LOCALID=0 SLURM_STEP_NODELIST=localhost setsid "$@" &
  pids+=($!)
done
echo "${pids[@]}" > "$STANDIN/tasks"
trap 'for pid in "${pids[@]}"; do kill -KILL -- -"$pid"; done' TERM
highest=0
for pid in "${pids[@]}"; do
  wait "$pid"
  code=$?
  [ "$code" -le "$highest" ] || highest=$code
done
exit "$highest"
"""
SCANCEL = r"""
echo "scancel $*" >> "$STANDIN/log"
for pid in $(cat "$STANDIN/tasks"); do kill -TERM -- -"$pid"; done
"""
SQUEUE = 'cat "$STANDIN/state"'
SCONTROL = 'echo "scontrol $*" >> "$STANDIN/log"'

# A TPU of two workers, whose homes are folders. `broken` holds an error that every question gets.
GCLOUD = r"""
verb="$3 $4"
name=$5
source=$5
target=$6
shift 5
workers="0 1"
for word in "$@"; do
  case $word in
    --worker=all) ;;
    --worker=*) workers=${word#*=} ;;
    --command=*) command=${word#*=} ;;
  esac
done
echo "gcloud $verb" >> "$STANDIN/log"
answer() {
  if [ -e "$STANDIN/broken" ]; then
    cat "$STANDIN/broken" >&2
    rm "$STANDIN/broken"
    exit 1
  elif [ -e "$STANDIN/$1" ]; then
    cat "$STANDIN/$1"
  else
    echo "ERROR: NOT_FOUND: Resource '$name' was not found" >&2
    exit 1
  fi
}
case $verb in
  "tpu-vm describe") answer tpu ;;
  "queued-resources describe") answer queue ;;
  "queued-resources create" | "tpu-vm create")
    mkdir -p "$STANDIN/worker0" "$STANDIN/worker1"
    echo READY > "$STANDIN/tpu"
    [[ $verb == tpu* ]] || echo ACTIVE > "$STANDIN/queue"
    ;;
  "queued-resources delete" | "tpu-vm delete") rm -rf "$STANDIN"/worker? "$STANDIN/tpu" "$STANDIN/queue" ;;
  "tpu-vm scp") for i in $workers; do cp "$source" "$STANDIN/worker$i/${target#*:}"; done ;;
  "tpu-vm ssh")
    for i in $workers; do
      (cd "$STANDIN/worker$i" && HOME=$PWD JAX_NUM_PROCESSES=2 JAX_PROCESS_ID=$i bash -c "$command") || exit 1
    done
    ;;
esac
"""
# Makes an environment whose python is PYTHON.
UV = r"""
case $1 in
  venv)
    folder=${!#}
    mkdir -p "$folder/bin"
    printf '#!/bin/sh\nexec %s "$@"\n' "$PYTHON" > "$folder/bin/python"
    chmod +x "$folder/bin/python"
    ;;
esac
"""


class StandIns:
    """A folder of stand-ins and the environment in which a launch file meets them."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        (folder / "bin").mkdir()
        programs = {"trainer": TRAINER, "srun": SRUN, "scancel": SCANCEL, "squeue": SQUEUE, "scontrol": SCONTROL}
        for name, text in {**programs, "gcloud": GCLOUD, "uv": UV}.items():
            path = folder / "bin" / name
            path.write_text(f"#!/usr/bin/env bash\n{text}")
            path.chmod(0o755)
        self.environment = os.environ | {
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "STANDIN": str(folder),
            "PYTHON": str(folder / "bin" / "trainer"),
            "PYTHONPATH": str(ROOT),
            "JAX_PLATFORMS": "cpu",
            **environment,
        }

    def plan(self, *starts: str) -> None:
        """With which codes the processes of each start will end, such as `143 0`."""
        (self.folder / "plan").write_text("\n".join(starts) + "\n")

    def start(self, file: str, *argv: str, cwd: Path | None = None, **environment: str) -> subprocess.Popen[str]:
        """Start a launch file."""
        return subprocess.Popen(
            ["bash", str(JOBS / file), *argv],
            env=self.environment | environment,
            cwd=cwd or self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, file: str, *argv: str, cwd: Path | None = None, **environment: str) -> tuple[int, str]:
        """The exit code of a launch file and what it prints."""
        process = self.start(file, *argv, cwd=cwd, **environment)
        told = process.communicate(timeout=300)[0]
        return process.returncode, told

    def log(self) -> list[str]:
        """What the stand-ins were asked, in order."""
        path = self.folder / "log"
        return path.read_text().splitlines() if path.exists() else []


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)
