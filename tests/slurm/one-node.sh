#!/usr/bin/env bash
# A real Slurm of one node on this machine, also in a container without systemd: bash tests/slurm/one-node.sh start|stop DIR
#
# `start` installs Debian's Slurm where it is missing, which takes root. All else lies in DIR: keys, state, logs, process
# ids; /etc/slurm/slurm.conf leads there while it runs (SLURM_CONF wouldn't do: Snakemake's jobs forget it). Nothing
# listens beyond this machine. `stop` ends what `start` started, and its jobs.
set -euo pipefail
verb=${1:-} dir=${2:-}
[[ $verb =~ ^(start|stop)$ && -n $dir ]] || { echo "usage: $0 start|stop DIR" >&2; exit 2; }
dir=$(realpath -m "$dir")
conf=/etc/slurm/slurm.conf cgroup=/etc/slurm/cgroup.conf
export PATH=$PATH:/usr/sbin:/sbin
unset SLURM_CONF

fail() { echo "one-node Slurm: $*" >&2; stop; exit 1; }

# Whether the daemon $1 that `start` started is at work. A process id may have gone to another program since, and the
# /proc/…/exe of a zombie, which nobody waits for in a container, leads nowhere.
lives() {
    local pid
    pid=$(cat "$dir/$1.pid" 2>/dev/null) && [[ $(readlink "/proc/$pid/exe") == */"$1"* ]]
}

# Wait at most $1 seconds until the rest of the line, a command, succeeds.
within() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < end)) || return 1
        sleep 0.2
    done
}

packages() {
    local program missing=
    for program in slurmctld slurmd munged; do command -v $program >/dev/null || missing=$program; done
    [[ $missing ]] || return 0
    command -v apt-get >/dev/null || fail "there is no $missing and no apt-get to install it with"
    echo "one-node Slurm: installing slurm-wlm and munge"
    export DEBIAN_FRONTEND=noninteractive
    # A container has no init to start services, and none of Debian's own may start: this script's are others.
    local policy=/usr/sbin/policy-rc.d
    if [[ ! -e $policy ]]; then
        trap "rm -f $policy" EXIT
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod +x $policy
    fi
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends slurm-wlm munge; } >"$dir/apt.log" 2>&1 ||
        { tail -n 5 "$dir/apt.log" >&2 && fail "apt-get failed; see $dir/apt.log"; }
}

free_ports() {
    python3 -c 'import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(server.getsockname()[1] for server in held))'
}

configure() {
    local host cores memory ctld slurmd
    host=$(hostname -s) memory=$(awk '/^MemTotal/ {print int($2 / 1024)}' /proc/meminfo)
    cores=$(env -u OMP_NUM_THREADS nproc) # which that variable would lower
    read -r ctld slurmd < <(free_ports)
    cat >"$dir/slurm.conf" <<CONF
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$ctld
SlurmdPort=$slurmd
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
AuthInfo=socket=$dir/munge.socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.log
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
# Without cgroups, which a container may not have
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=0,sched_interval=2
ReturnToService=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cores RealMemory=$memory State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
    # Newer ones look for cgroups in any case, unless told not to; older ones don't know the word.
    local version
    version=$(slurmd -V | grep -o '[0-9]*' | head -n 1)
    mkdir -p /etc/slurm
    ln -s "$dir/slurm.conf" $conf
    ((version < 24)) || echo "CgroupPlugin=disabled" >"$dir/cgroup.conf"
    [[ ! -e $dir/cgroup.conf || -e $cgroup ]] || ln -s "$dir/cgroup.conf" $cgroup
}

idle() { [[ $(timeout 5 sinfo --noheader --format=%T 2>/dev/null) == idle ]]; }

start() {
    if lives slurmctld && lives slurmd && idle; then return; fi
    stop
    ((UID == 0)) || fail "this takes root"
    [[ ! -e $conf ]] || fail "this machine has a Slurm of its own: $(realpath $conf)"
    mkdir -p "$dir"/{state,spool}
    packages
    configure
    [[ -s $dir/munge.key ]] || (umask 077 && head -c 1024 /dev/urandom >"$dir/munge.key")
    munged --force --key-file="$dir/munge.key" --socket="$dir/munge.socket" --pid-file="$dir/munged.pid" \
        --log-file="$dir/munged.log" --seed-file="$dir/munged.seed" || fail "munged did not start; see $dir/munged.log"
    slurmctld || fail "slurmctld did not start; see $dir/slurmctld.log"
    slurmd || fail "slurmd did not start; see $dir/slurmd.log"
    within 60 idle || fail "the node did not get ready within a minute; see $dir/slurmctld.log and slurmd.log"
    timeout 60 srun --ntasks=1 true || fail "no job ran; see $dir/slurmd.log"
}

none_left() { [[ -z $(timeout 5 squeue --noheader 2>/dev/null) ]]; }
ended() { ! lives "$1"; }

stop() {
    if lives slurmctld && lives slurmd; then
        timeout 10 scancel --user=root || true
        within 30 none_left || true
    fi
    local daemon
    for daemon in slurmd slurmctld munged; do
        if lives $daemon; then
            kill "$(cat "$dir/$daemon.pid")"
            within 15 ended $daemon || { kill -9 "$(cat "$dir/$daemon.pid")" || true; }
        fi
        rm -f "$dir/$daemon.pid"
    done
    local file
    for file in $conf $cgroup; do
        [[ $(readlink $file) != "$dir/"* ]] || rm $file
    done
}

$verb
