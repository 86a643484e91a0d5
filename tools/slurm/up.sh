#!/bin/sh
# Start a throw-away SLURM cluster on this computer: `tools/slurm/up.sh DIR [NODES]`; `tools/slurm/down.sh DIR` ends it.
#
# Use it to try the slurm profile and for its tests. It needs root and installs Debian's packages. Each of NODES virtual
# nodes has a fake GPU; there is no systemd, no cgroups and no accounting. A lost node is noticed in seconds, the sizes of
# nodes are not checked, and cancelled jobs have SLURM's own 30 s to end.
# /etc/slurm/slurm.conf becomes a link into DIR, because the jobs of Snakemake's plug-in look nowhere else.
set -eu

stop() {
    echo "error: $*" >&2
    exit 1
}

[ $# -ge 1 ] || stop "name a folder for the cluster: tools/slurm/up.sh DIR [NODES]"
[ "$(id -u)" = 0 ] || stop "the throw-away cluster needs root"
[ -z "${SLURM_CONF:-}" ] || stop "a SLURM cluster is configured here (SLURM_CONF=$SLURM_CONF); use that one"
for place in /etc/slurm/slurm.conf /etc/slurm-llnl/slurm.conf; do
    [ ! -e "$place" ] && [ ! -L "$place" ] ||
        stop "a SLURM cluster is configured here ($place -> $(readlink -f "$place")); use that one," \
            "or end it with tools/slurm/down.sh if it is a throw-away one"
done
for daemon in slurmctld slurmd; do
    ! ps -e -o comm= | grep -qx "$daemon" || stop "$daemon is running here; use the cluster that it belongs to"
done
if ! command -v slurmctld slurmd sbatch munged >/dev/null; then
    command -v apt-get >/dev/null || stop "install slurmctld, slurmd, the SLURM client and munge; there is no apt-get here"
    apt="apt-get -q -y -o DPkg::Lock::Timeout=300"
    { $apt update && DEBIAN_FRONTEND=noninteractive $apt install slurmctld slurmd slurm-client munge procps; } >&2 ||
        stop "apt-get could not install slurmctld, slurmd, slurm-client and munge; see above"
fi

nodes=${2:-2}
host=$(hostname -s)
mkdir -p "$1"
dir=$(cd "$1" && pwd)
mkdir -p "$dir/munge" "$dir/state" "$dir/spool" "$dir/log" "$dir/run" /etc/slurm
chown munge: "$dir/munge"
[ -s "$dir/munge/key" ] || head -c 128 /dev/urandom >"$dir/munge/key"
chown munge: "$dir/munge/key"
chmod 400 "$dir/munge/key"

cat >"$dir/slurm.conf" <<CONF
ClusterName=throwaway
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge/socket,cred_expire=5
CredType=cred/munge
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool/%n
SlurmctldPidFile=$dir/run/slurmctld.pid
SlurmdPidFile=$dir/run/slurmd.%n.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=sched_min_interval=100000,batch_sched_delay=1,bf_interval=1
SlurmdParameters=config_overrides
GresTypes=gpu
MpiDefault=none
SwitchType=switch/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
JobRequeue=1
MinJobAge=600
SlurmdTimeout=10
SlurmctldTimeout=10
InactiveLimit=0
KillWait=30
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
$(for i in $(seq "$nodes"); do
    echo "NodeName=node$i NodeHostname=$host NodeAddr=127.0.0.1 Port=$((17000 + i)) CPUs=8 RealMemory=32000 Gres=gpu:1"
done)
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
CONF
echo "Name=gpu Count=1 File=/dev/null" >"$dir/gres.conf"
ln -s "$dir/slurm.conf" "$dir/gres.conf" /etc/slurm/

runuser -u munge -- munged --force --key-file="$dir/munge/key" --socket="$dir/munge/socket" \
    --pid-file="$dir/munge/pid" --log-file="$dir/munge/log" --seed-file="$dir/munge/seed"
slurmctld
for i in $(seq "$nodes"); do
    mkdir -p "$dir/spool/node$i"
    slurmd -N "node$i"
done
for _ in $(seq 100); do
    [ "$(sinfo -h -N -p main -t idle -o %N 2>/dev/null | wc -l)" = "$nodes" ] && exec sinfo
    sleep 0.1
done
stop "the nodes did not come up in 10 s; see $dir/log"
