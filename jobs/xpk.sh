#!/usr/bin/env bash
# Trains on TPUs of a GKE cluster that was made with XPK, which writes the JobSet itself.
#
#   jobs/xpk.sh create CONFIG.yaml [--section.field value ...]     puts the run into the queue
#   jobs/xpk.sh list                                               what runs and what waits
#   jobs/xpk.sh logs                                               follows the log of the first host
#   jobs/xpk.sh delete                                             saves a checkpoint and ends the run
#
# `jobs/xpk.sh --dry-run create ...` shows the command. To resume a run that has ended: delete, and create as before.
# XPK starts a run again after the exit codes 127 to 255, which include all of a preemption, at most RESTARTS times.
set -euo pipefail

# Settings: change them here, or set them in the environment.
CLUSTER=${CLUSTER:-my-cluster}          # of `xpk cluster create`
NAME=${NAME:-jaxft}                     # of the workload
PROJECT=${PROJECT:-}                    # empty: that of `gcloud config`
ZONE=${ZONE:-us-west4-a}
TYPE=${TYPE:-v5litepod-16}              # chips of a slice
SLICES=${SLICES:-1}
IMAGE=${IMAGE:-}                        # with jaxft (jobs/Dockerfile); empty: python:3.12, and this checkout is installed
                                        # at each start
STORAGE=${STORAGE:-jaxft}               # of `xpk storage create` or `attach`, shared by all hosts and mounted at MOUNT
MOUNT=${MOUNT:-/mnt/jaxft}
OUTPUT_DIR=${OUTPUT_DIR:-$MOUNT/runs/$NAME}
RESTARTS=${RESTARTS:-20}
GRACE=${GRACE:-120}                     # seconds for the last step and its checkpoint; spot nodes have about 30

dry_run=
if [ "${1:-}" = --dry-run ]; then
  dry_run=1
  shift
fi

run() {
  if [ -n "$dry_run" ]; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

where=(--cluster="$CLUSTER" --zone="$ZONE")
[ -z "$PROJECT" ] || where+=(--project="$PROJECT")

case ${1:-} in
  create)
    shift
    if [ $# -eq 0 ]; then
      echo "usage: jobs/xpk.sh create CONFIG.yaml [--section.field value ...]" >&2
      exit 2
    fi
    train=$(printf '%q ' python -m jaxft.train "$@" --output_dir "$OUTPUT_DIR" --runtime.distributed on)
    if [ -n "$IMAGE" ]; then
      image=(--docker-image="$IMAGE")
      command="exec $train" # exec: XPK passes a SIGTERM to this process only
    else
      image=(--base-docker-image=python:3.12 --script-dir=.)
      command="pip install --quiet -e '.[tpu]' && exec $train"
    fi
    run xpk workload create "${where[@]}" --workload="$NAME" --tpu-type="$TYPE" --num-slices="$SLICES" "${image[@]}" \
      --storage="$STORAGE" --env="JAX_COMPILATION_CACHE_DIR=$MOUNT/xla" --max-restarts="$RESTARTS" \
      --termination-grace-period-seconds="$GRACE" --command="$command"
    ;;
  list) run xpk workload list "${where[@]}" ;;
  logs)
    first=jobset.sigs.k8s.io/jobset-name=$NAME,batch.kubernetes.io/job-completion-index=0
    run kubectl logs --follow --selector "$first"
    ;;
  delete) run xpk workload delete "${where[@]}" --workload="$NAME" ;;
  *)
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
    ;;
esac
