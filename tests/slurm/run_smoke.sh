#!/usr/bin/env bash
# The smoke study on a real Slurm of one node, by envs/profiles/slurm, comes to the leaderboard of a run without Slurm:
# bash tests/slurm/run_smoke.sh. Exit code 1 if not. Takes root, or a Slurm that is installed and not in use.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export PATH=$PWD/.venv/bin:$PATH
study=studies/smoke.yaml results=results/slurm
node=$(mktemp -d)

finish() {
    local code=$?
    bash tests/slurm/one-node.sh stop "$node"
    if ((code)); then
        echo "Slurm: failed; the run's log is $node/run.log, Slurm's are beside it" >&2
    else
        rm -rf "$node"
    fi
}
trap finish EXIT

# What the profile leaves to a cluster: this one has no accounting, few processors, and jobs of seconds. Of a group's
# jobs one runs after the other, so one core is enough for it.
here=(
    --slurm-status-command squeue --slurm-no-account --slurm-init-seconds-before-status-checks 1
    --jobs 50 --cores 1 --latency-wait 10
    --groups reference=reference sample=sample score=score
    --group-components reference=4 sample=9 score=4
)

start=$SECONDS
bash tests/slurm/one-node.sh start "$node"
echo "Slurm: up after $((SECONDS - start)) s"

rm -rf $results
start=$SECONDS
timeout --kill-after=60 2700 snakemake --profile envs/profiles/slurm --configfile $study --config results=$results "${here[@]}" \
    >"$node/run.log" 2>&1 || { tail -n 40 "$node/run.log" >&2; exit 1; }
echo "Slurm: $(grep -c 'has been submitted with SLURM jobid' "$node/run.log") jobs in $((SECONDS - start)) s"

start=$SECONDS
snakemake --cores all --configfile $study >"$node/local.log" 2>&1 || { tail -n 40 "$node/local.log" >&2; exit 1; }
echo "without Slurm: $((SECONDS - start)) s"
python tests/slurm/same_board.py $results results/smoke
