#!/usr/bin/env bash
# Your teacher's and learner's checkpoints, trained by plain fairseq, to a distilled model in int8 that
# translates raw text with neither fairseq nor torch:
#
#   examples/own_models.sh DATA TEACHER LEARNER PIECES OUT --arch transformer_iwslt_de_en --max-epoch 5 …
#
# DATA is what fairseq-preprocess wrote, PIECES sentencepiece's model (for others: docs/deploy.md); OUT is
# made. What follows are fairseq-train's options, the learner's architecture among them.
set -euo pipefail
data=$1 teacher=$2 learner=$3 pieces=$4 out=$5
shift 5

fairseq-train "$data" --user-dir "$(python -m ka_fairseq)" --task translation_with_teacher \
    --teacher-path "$teacher" --teacher-cache "$out/cache" --finetune-from-model "$learner" \
    --criterion jsd_mixture --transfer-weight 0.9 --label-smoothing 0.1 --dropout 0.1 \
    --optimizer adam --adam-betas '(0.9, 0.98)' --lr 1e-3 --max-tokens 4096 \
    --required-batch-size-multiple 1 --save-dir "$out" "$@"
python -m ka_fairseq.export "$out/checkpoint_best.pt" "$out/int8" --to ctranslate2 \
    --data "$data" --sentencepiece "$pieces"
echo "to translate: python $out/int8/translate.py < text"
