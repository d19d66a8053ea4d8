#!/usr/bin/env bash
# Trains on all GPUs of one machine, or of several, and starts the run again when it was interrupted.
#
#   jobs/gpus.sh CONFIG.yaml --output_dir DIR [--section.field value ...]     this machine
#   jobs/gpus.sh --dry-run CONFIG.yaml ...                                    shows the commands and starts nothing
#
# On several machines, run it on each with the same arguments. DIR is a directory that all of them share:
#
#   MACHINES=2 MACHINE=0 COORDINATOR=gpu0:8482 jobs/gpus.sh CONFIG.yaml ...   on gpu0
#   MACHINES=2 MACHINE=1 COORDINATOR=gpu0:8482 jobs/gpus.sh CONFIG.yaml ...   on the other
#
# One process per machine is right: jaxft splits each batch over all GPUs that its process sees, and reads and tokenises the
# data once. PROCESSES=8 starts one process per GPU instead. That is worth a try only where one process cannot keep all GPUs
# busy (share_dispatch in metrics.jsonl is large); it reads the data 8 times and needs 8 times the memory of the machine.
set -uo pipefail

# Settings: change them here, or set them in the environment.
MACHINES=${MACHINES:-1}                      # machines that train together
MACHINE=${MACHINE:-0}                        # the number of this one, from 0
COORDINATOR=${COORDINATOR:-127.0.0.1:8482}   # machine 0 and a free port there, which the others can reach
PROCESSES=${PROCESSES:-1}                    # on this machine: 1, or the number of its GPUs
PYTHON=${PYTHON:-python}                     # of the environment with jaxft: pip install -e '.[cuda]'
ATTEMPTS=${ATTEMPTS:-20}                     # starts in a row, each of which ended within STEADY seconds
PAUSE=${PAUSE:-10}                           # seconds before the second start; doubled each time, up to 300
STEADY=${STEADY:-3600}                       # a run that lasted so many seconds begins the count anew

dry_run=
if [ "${1:-}" = --dry-run ]; then
  dry_run=1
  shift
fi
if [ $# -eq 0 ]; then
  echo "usage: jobs/gpus.sh [--dry-run] CONFIG.yaml --output_dir DIR [--section.field value ...]" >&2
  exit 2
fi

# Interrupted, so that the same command resumes: hung up, ended because another process died, killed, terminated.
interrupted() {
  case $1 in 129 | 134 | 137 | 142 | 143) return 0 ;; *) return 1 ;; esac
}

say() { echo "$(date +%T) gpus.sh: $*" >&2; }

# The variables of the process with this number on this machine: jaxft joins the cluster that they announce.
variables() {
  local total=$((MACHINES * PROCESSES))
  [ "$total" -gt 1 ] || return 0
  echo "JAX_COORDINATOR_ADDRESS=$COORDINATOR"
  echo "JAX_NUM_PROCESSES=$total"
  echo "JAX_PROCESS_ID=$((MACHINE * PROCESSES + $1))"
  [ "$PROCESSES" -eq 1 ] || echo "CUDA_VISIBLE_DEVICES=$1"
}

stopped=
pids=()
stop() { # jaxft saves a checkpoint after its step; the processes tell each other
  stopped=1
  kill -TERM "${pids[@]}" 2>/dev/null
}
trap stop TERM INT HUP

attempt=1
pause=$PAUSE
while true; do
  pids=()
  for ((i = 0; i < PROCESSES; i++)); do
    mapfile -t announced < <(variables "$i")
    if [ -n "$dry_run" ]; then
      printf '%q ' "${announced[@]}" "$PYTHON" -m jaxft.train "$@"
      echo
    else
      env "${announced[@]}" "$PYTHON" -m jaxft.train "$@" &
      pids+=($!)
    fi
  done
  [ -z "$dry_run" ] || exit 0

  began=$SECONDS
  code=0
  for pid in "${pids[@]}"; do
    while true; do # a signal to this script ends `wait`, but not the process
      wait "$pid"
      ended=$?
      kill -0 "$pid" 2>/dev/null || break
    done
    if [ "$ended" -ne 0 ] && { [ "$code" -eq 0 ] || interrupted "$code"; }; then
      code=$ended # an error weighs more than the interruptions of other processes that follow from it
    fi
  done

  if [ -n "$stopped" ] || ! interrupted "$code"; then
    exit "$code"
  fi
  if [ $((SECONDS - began)) -ge "$STEADY" ]; then
    attempt=1
    pause=$PAUSE
  fi
  if [ "$attempt" -ge "$ATTEMPTS" ]; then
    say "exit code $code at start $attempt of $ATTEMPTS: giving up"
    exit "$code"
  fi
  say "exit code $code at start $attempt of $ATTEMPTS: the same command again in $pause s"
  sleep "$pause" &
  wait $!
  [ -z "$stopped" ] || exit "$code"
  attempt=$((attempt + 1))
  pause=$((pause * 2 < 300 ? pause * 2 : 300))
done
