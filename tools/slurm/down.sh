#!/bin/sh
# End the throw-away SLURM cluster that `tools/slurm/up.sh DIR` started, with its jobs, and delete DIR.
set -eu

[ $# = 1 ] && [ -f "$1/slurm.conf" ] || {
    echo "error: name the folder that tools/slurm/up.sh was given: tools/slurm/down.sh DIR" >&2
    exit 1
}
dir=$(cd "$1" && pwd)

if [ "$(readlink -f /etc/slurm/slurm.conf)" = "$dir/slurm.conf" ]; then
    timeout 20 scancel --user=root || echo "down.sh: the controller did not cancel the jobs; see squeue" >&2
    for _ in $(seq 400); do # longer than KillWait
        ps -e -o stat=,comm= | grep -q '^[^Z].*slurmstepd' || break
        sleep 0.1
    done
    rm -f /etc/slurm/slurm.conf /etc/slurm/gres.conf
fi
for file in "$dir"/run/*.pid "$dir/munge/pid"; do
    number=$(cat "$file" 2>/dev/null) && ps -p "$number" -o comm= | grep -q '^slurm\|^munged' || continue
    kill "$number"
    for _ in $(seq 100); do
        kill -0 "$number" 2>/dev/null || break
        sleep 0.1
    done
done
rm -rf "$dir"
