#!/usr/bin/env bash
# Your parallel text to a small model that translates raw text: a teacher, a learner from scratch on the
# teacher's translations that are nearest to your references, both KLs after it, the table, an int8 folder.
#
#   examples/own_corpus.sh DATA SRC TGT [options of scripts/pipeline.sh, as --runs, --jobs, --quick]
#
# DATA holds train, valid and test, each as .SRC and .TGT (or .gz), a sentence a line. CONFIGS names a folder
# with configs; the default, the demo's, is for some ten thousand sentences and a laptop. It resumes.
set -euo pipefail
data=$1 src=$2 tgt=$3
shift 3

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$here/scripts/pipeline.sh" --data "$data" --src "$src" --tgt "$tgt" \
    --config "${CONFIGS:-$here/configs/demo}" --train-teacher \
    prepare binarize teacher learner control translate text seq_inter cache seq_inter_mixture \
    evaluate export speed report "$@"
