#!/usr/bin/env bash
# Make a small translator of raw text from your parallel text:
#
#   examples/own_corpus.sh DATA SRC TGT [options of scripts/pipeline.sh, as --full, --runs, --jobs, --quick]
#
# DATA holds train, valid and test, each as .SRC and .TGT (or .gz), one sentence a line. The script trains
#   - a teacher;
#   - a student, which begins with the teacher's first layers and is trained on the teacher's
#     translations, with word-level distillation;
#   - a control, which is trained on your references alone.
# It writes a table of results, and an int8 folder for each model. An interrupted run resumes.
#
# The variable CONFIGS names a folder with configs. The default, the demo's, is for some ten thousand
# sentences and a laptop.
set -euo pipefail

if (($# < 3)) || [[ $1 == -* ]]; then
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
data=$1 src=$2 tgt=$3
shift 3

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$here/scripts/pipeline.sh" --data "$data" --src "$src" --tgt "$tgt" \
    --config "${CONFIGS:-$here/configs/demo}" --train-teacher \
    prepare binarize teacher control translate text cache seq_inter_kd \
    evaluate export speed report "$@"
