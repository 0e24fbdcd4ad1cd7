#!/usr/bin/env bash
# Draw every figure and table of the paper from your own checkpoints:
#
#   examples/figures.sh data-bin teacher.pt learner.pt runs/kd runs/ka figures [results.csv]
#
# data-bin     the data-bin that fairseq-preprocess wrote
# teacher.pt   the teacher
# learner.pt   the student from which both runs were fine-tuned
# runs/kd, ka  the --save-dir of each run, with checkpoint1.pt, checkpoint2.pt, …
# figures      the folder to write to
# results.csv  the results of a sweep, for Fig. 4a, with columns criterion,transfer_weight,top_k,bleu
set -euo pipefail

if (($# < 6 || $# > 7)); then
    echo "usage: $0 DATA TEACHER LEARNER KD_FOLDER KA_FOLDER OUT [RESULTS]" >&2
    exit 1
fi
data=$1 teacher=$2 learner=$3 kd=$4 ka=$5 out=$6 results=${7:-}

draw() {
    local command=$1
    shift
    python -m ka_fairseq.analysis "$command" --out "$out/$command" "$@"
}
runs=(--run "KD=$kd" --run "KA=$ka" --start "$learner")

# Fig. 2 and 3 need no checkpoint.
draw derivatives
draw toy

# Fig. 5: the entropy of the student after each epoch, compared with the teacher's.
draw entropy --data "$data" "${runs[@]}" --teacher-path "$teacher"

# Fig. 4b, on 2000 training pairs.
draw novel-tokens --data "$data" "${runs[@]}"

# Table 3, at the positions where the two runs differ most. To choose a position yourself, give
# --sentence 12 --position 3 instead of --find.
draw top-tokens --data "$data" "${runs[@]}" --find 10

# Not in the paper: agreement, calibration and both KLs, of one checkpoint of each run.
draw agreement --data "$data" --teacher-path "$teacher" --run "learner=$learner" \
    --run "KD=$kd" --run "KA=$ka"

# Fig. 4a.
if [[ -n $results ]]; then
    draw sweep --results "$results"
fi
