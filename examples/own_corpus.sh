#!/usr/bin/env bash
# Your parallel text to a small model that translates raw text: a teacher, a student that begins with the
# teacher's first layers and is trained on the teacher's translations beside the teacher, a control that is
# trained on your references alone, the table, an int8 folder for each.
#
#   examples/own_corpus.sh DATA SRC TGT [options of scripts/pipeline.sh, as --full, --runs, --jobs, --quick]
#
# DATA holds train, valid and test, each as .SRC and .TGT (or .gz), a sentence a line. CONFIGS names a folder
# with configs; the default, the demo's, is for some ten thousand sentences and a laptop. It resumes.
set -euo pipefail
data=$1 src=$2 tgt=$3
shift 3

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$here/scripts/pipeline.sh" --data "$data" --src "$src" --tgt "$tgt" \
    --config "${CONFIGS:-$here/configs/demo}" --train-teacher \
    prepare binarize teacher control translate text cache seq_inter_kd \
    evaluate export speed report "$@"
