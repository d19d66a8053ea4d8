#!/usr/bin/env bash
# Trains on a Cloud TPU VM of one host or many (a slice of a pod), and brings the run back after preemptions.
#
#   jobs/tpu_vm.sh create      asks for the TPU and waits until it is there
#   jobs/tpu_vm.sh setup       copies code and data to all workers, installs jaxft, mounts the shared directory
#   jobs/tpu_vm.sh start       starts the run on all workers; it goes on without this terminal, and resumes if it can
#   jobs/tpu_vm.sh logs        follows the log of worker 0 (WORKER=1: of another)
#   jobs/tpu_vm.sh status      the state of the TPU, and what the run does on each worker
#   jobs/tpu_vm.sh stop        saves a checkpoint and ends the run; start resumes it
#   jobs/tpu_vm.sh delete      gives the TPU back; what is only on its disks is lost
#   jobs/tpu_vm.sh babysit     all of it: creates, sets up and starts whatever is missing, until the run is done
#
# `jobs/tpu_vm.sh --dry-run COMMAND` shows the commands and calls none. babysit needs a machine that stays on (in tmux).
# When babysit has ended, the TPU is still there, and still costs money: delete it.
set -euo pipefail

# Settings: change them here, or set them in the environment.
NAME=${NAME:-jaxft}                              # of the TPU, and of its place in the queue
PROJECT=${PROJECT:-}                             # empty: that of `gcloud config`
ZONE=${ZONE:-us-west4-a}
TYPE=${TYPE:-v5litepod-16}                       # v5litepod-16 has 4 workers with 4 chips each
VERSION=${VERSION:-v2-alpha-tpuv5-lite}          # of the software: v2-alpha-tpuv6e for v6e
SPOT=${SPOT:-1}                                  # 1: cheap, and may be taken away; 0: on demand
QUEUED=${QUEUED:-1}                              # 1: wait in the queue of queued resources; 0: now or not at all
NFS=${NFS:-}                                     # SERVER:/SHARE (Filestore), mounted on all workers
MOUNT=${MOUNT:-/mnt/jaxft}                       # where
OUTPUT_DIR=${OUTPUT_DIR:-$MOUNT/runs/$NAME}      # of the run; it must outlive the TPU, and all workers must see it
CODE=${CODE:-.}                                  # a checkout of jaxft, which becomes ~/jaxft on all workers
DATA=${DATA:-}                                   # a folder, which becomes ~/data on all workers; empty: none
CONFIG=${CONFIG:-configs/banking77.yaml}         # relative to the checkout
OPTIONS=${OPTIONS:-}                             # more of jaxft train, such as '--train.epochs 5'; no quotes in it
PYTHON_VERSION=${PYTHON_VERSION:-3.12}           # images have an older one; uv installs this
ATTEMPTS=${ATTEMPTS:-20}                         # babysit: starts in a row that ended within STEADY seconds
PAUSE=${PAUSE:-30}                               # babysit: seconds before the next try; doubled each time, up to 600
STEADY=${STEADY:-3600}                           # babysit: a run that lasted so many seconds begins the count anew
POLL=${POLL:-60}                                 # seconds between two looks
WORKER=${WORKER:-0}                              # whose log `logs` shows

say() { echo "$(date +%T) tpu_vm.sh: $*" >&2; }

dry_run=
tpus() { # gcloud compute tpus, or the command that would be called
  local command=(gcloud compute tpus "$@" --zone="$ZONE")
  [ -z "$PROJECT" ] || command+=(--project="$PROJECT")
  if [ -z "$dry_run" ]; then
    "${command[@]}"
    return
  fi
  local word
  for word in "${command[@]}"; do
    [[ $word =~ ^[[:alnum:]_./:=,@-]+$ ]] || word="'${word//\'/\'\\\'\'}'"
    printf '%s ' "$word"
  done
  echo
}

# Runs a command in a shell on one worker or on all.
on() { tpus tpu-vm ssh "$NAME" --worker="$1" --command="$2"; }

# What `describe` says of the TPU or of its place in the queue; NONE if there is none, UNKNOWN if Google does not answer:
# then nothing must be deleted.
state_of() {
  local answer
  if answer=$(tpus "$1" describe "$NAME" --format="value($2)" 2>&1); then
    echo "$answer"
  elif [[ $answer == *NOT_FOUND* || $answer == *"not found"* ]]; then
    echo NONE
  else
    echo UNKNOWN
  fi
}
tpu_state() { state_of tpu-vm state; }
place_in_queue() { if [ "$QUEUED" = 0 ]; then echo NONE; else state_of queued-resources state.state; fi; }

create() {
  local place=NONE spot=()
  [ "$SPOT" = 0 ] || spot=(--spot)
  if [ "$QUEUED" = 0 ]; then
    tpus tpu-vm create "$NAME" --accelerator-type="$TYPE" --version="$VERSION" "${spot[@]}"
    return
  fi
  [ -n "$dry_run" ] || place=$(place_in_queue)
  if [ "$place" = NONE ]; then
    tpus queued-resources create "$NAME" --node-id="$NAME" \
      --accelerator-type="$TYPE" --runtime-version="$VERSION" "${spot[@]}" || return 1
  fi
  [ -z "$dry_run" ] || return 0
  while true; do
    place=$(place_in_queue)
    say "in the queue: $place"
    case $place in
      ACTIVE) return 0 ;;
      NONE | FAILED | SUSPENDED | SUSPENDING) return 1 ;;
    esac
    sleep "$POLL"
  done
}

delete() {
  if [ "$QUEUED" = 0 ]; then
    tpus tpu-vm delete "$NAME" --quiet
  else
    tpus queued-resources delete "$NAME" --force --quiet # with its TPU
  fi
}

# The command that mounts the shared directory; a worker that was started anew has lost it.
mounting() {
  [ -n "$NFS" ] || return 0
  echo "command -v mount.nfs > /dev/null || (sudo apt-get update -qq && sudo apt-get install -y -qq nfs-common)
sudo mkdir -p $MOUNT
mountpoint -q $MOUNT || { sudo mount -t nfs $NFS $MOUNT && sudo chmod a+rwx $MOUNT; }"
}

temporary=
trap 'rm -rf "$temporary"' EXIT
setup() {
  local install
  [ -n "$temporary" ] || temporary=$(mktemp -d)
  if [ -z "$dry_run" ]; then
    tar --exclude=.git --exclude=.venv --exclude='.venv-*' --exclude=.test_cache --exclude=runs \
      -czf "$temporary/jaxft.tgz" -C "$CODE" . || return 1
    [ -z "$DATA" ] || tar -czf "$temporary/data.tgz" -C "$DATA" . || return 1
  fi
  tpus tpu-vm scp "$temporary/jaxft.tgz" "$NAME:jaxft.tgz" --worker=all || return 1
  [ -z "$DATA" ] || tpus tpu-vm scp "$temporary/data.tgz" "$NAME:data.tgz" --worker=all || return 1
  install="set -e
mkdir -p ~/jaxft && tar -xzf ~/jaxft.tgz -C ~/jaxft
if [ -f ~/data.tgz ]; then mkdir -p ~/data && tar -xzf ~/data.tgz -C ~/data; fi
export PATH=\$HOME/.local/bin:\$PATH
command -v uv > /dev/null || python3 -m pip install --quiet --user uv
[ -x ~/jaxft-venv/bin/python ] || uv venv --quiet --python $PYTHON_VERSION ~/jaxft-venv
uv pip install --quiet --python ~/jaxft-venv/bin/python -e ~/jaxft'[tpu]'
$(mounting)
touch ~/jaxft.ready"
  [ -n "$NFS" ] ||
    say "NFS is empty: $OUTPUT_DIR is on the disk of each worker and is lost with it, and several workers cannot share it"
  on all "$install"
}

start() {
  local cache=
  # Programs that are compiled once are found again by the next TPU.
  [ -z "$NFS" ] || cache="JAX_COMPILATION_CACHE_DIR=$MOUNT/xla"
  # The cluster of a TPU VM is announced by its metadata server only, so jaxft must be told to join it.
  on all "cd ~/jaxft
if [ -f ~/jaxft.pid ] && [ ! -f ~/jaxft.exit ] && kill -0 \$(cat ~/jaxft.pid) 2> /dev/null; then
  echo 'the run is going on'
  exit 0
fi
rm -f ~/jaxft.exit ~/jaxft.stopped ~/jaxft.pid
$(mounting)
setsid bash -c '
  $cache ~/jaxft-venv/bin/python -m jaxft.train $CONFIG --output_dir $OUTPUT_DIR --runtime.distributed on $OPTIONS &
  echo \$! > ~/jaxft.pid
  wait \$!
  echo \$? > ~/jaxft.exit' >> ~/jaxft.log 2>&1 < /dev/null &
for i in \$(seq 50); do [ -f ~/jaxft.pid ] && break; sleep 0.1; done
echo 'the run has started'"
}

# A line for each worker: NEW (not set up), NONE (never started), RUNNING, STOPPED (by stop), EXIT and a code, or LOST (the
# worker was started anew).
runs() {
  on all "if [ ! -f ~/jaxft.ready ]; then echo run NEW
elif [ -f ~/jaxft.exit ] && [ -f ~/jaxft.stopped ]; then echo run STOPPED
elif [ -f ~/jaxft.exit ]; then echo run EXIT \$(cat ~/jaxft.exit)
elif [ ! -f ~/jaxft.pid ]; then echo run NONE
elif kill -0 \$(cat ~/jaxft.pid) 2> /dev/null; then echo run RUNNING
else echo run LOST; fi"
}

stop() { on all "touch ~/jaxft.stopped; kill -TERM \$(cat ~/jaxft.pid)"; }
end_hanging() { on all "kill -KILL \$(cat ~/jaxft.pid) 2> /dev/null || true"; }
logs() { on "$WORKER" 'tail -n 100 -F ~/jaxft.log'; }
last_lines() { on 0 'tail -n 20 ~/jaxft.log' || true; }

status() {
  if [ -z "$dry_run" ]; then
    echo "TPU $NAME: $(tpu_state)"
  else
    tpus tpu-vm describe "$NAME" --format='value(state)'
  fi
  runs
}

# Waits and counts a try; fails when there were enough. PAUSE grows.
pause=$PAUSE
attempt=0
try_again() {
  attempt=$((attempt + 1))
  if [ "$attempt" -gt "$ATTEMPTS" ]; then
    say "$ATTEMPTS tries: giving up"
    return 1
  fi
  [ "$attempt" -gt 1 ] || return 0
  say "try $attempt of $ATTEMPTS in $pause s"
  sleep "$pause"
  pause=$((pause * 2 < 600 ? pause * 2 : 600))
}

babysit() {
  local state found codes began=0 alone=0 last=1
  if [ -n "$dry_run" ]; then
    create; setup; start; status
    return
  fi
  while true; do
    state=$(tpu_state)
    case $state in
      READY) ;;
      UNKNOWN | CREATING | STARTING | RESTARTING | REPAIRING | REIMAGING)
        say "the TPU is $state"
        sleep "$POLL"
        continue
        ;;
      *)
        case $(place_in_queue) in
          UNKNOWN | ACCEPTED | WAITING_FOR_RESOURCES | PROVISIONING | CREATING) say "the TPU is in the queue already" ;;
          *)
            say "the TPU is $state: a new one"
            [ "$state" = NONE ] && [ "$QUEUED" = 0 ] || delete 2> /dev/null || true
            ;;
        esac
        create || try_again || exit "$last"
        continue
        ;;
    esac
    if ! found=$(runs | grep '^run ' | sort -u); then
      say "the workers do not answer"
      sleep "$POLL"
      continue
    fi
    codes=$(sed -n 's/^run EXIT //p' <<< "$found" | grep -vx 0 || true)
    for code in $codes; do
      case $code in
        129 | 134 | 137 | 142 | 143) last=$code ;; # interrupted, so that the same command resumes
        *)
          last_lines
          say "exit code $code: an error, which starting again would not mend"
          exit "$code"
          ;;
      esac
    done
    case $found in
      *NEW*) setup || try_again || exit "$last" ;;
      *STOPPED*)
        say "stopped; start resumes"
        exit 143
        ;;
      *RUNNING*)
        if [ -z "$codes" ] && [[ $found != *NONE* && $found != *LOST* ]]; then
          alone=0
          sleep "$POLL"
          continue
        fi
        # Those that are left end by themselves within two minutes, or hang.
        alone=$((alone + 1))
        if [ "$alone" -gt 5 ]; then
          say "some workers hang without the others: ending them"
          end_hanging || true
          alone=0
        fi
        sleep "$POLL"
        ;;
      "run EXIT 0")
        last_lines
        say "done; the TPU is still there: jobs/tpu_vm.sh delete"
        exit 0
        ;;
      *)
        if [ "$began" -gt 0 ] && [ $((SECONDS - began)) -ge "$STEADY" ]; then
          attempt=0
          pause=$PAUSE
        fi
        [[ $found == "run NONE" ]] || say "the run was interrupted: ${found//$'\n'/, }"
        try_again || exit "$last"
        start || true
        began=$SECONDS
        sleep "$POLL"
        ;;
    esac
  done
}

if [ "${1:-}" = --dry-run ]; then
  dry_run=1
  shift
fi
case ${1:-} in
  create | setup | start | logs | status | stop | delete | babysit) "$1" ;;
  *)
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
    ;;
esac
