#!/usr/bin/env bash
# Train a small language model from raw text with a larger one as its teacher, and print perplexities:
#
#   examples/language_model.sh TEXT OUT --max-epoch 10 …
#
# TEXT  a folder with train.txt and valid.txt, one sentence a line
# OUT   the folder for all results; the script makes it
# …     options of fairseq-train, for all models
#
# Variables: TYPES is the size of the vocabulary (default: 4000). TEACHER and STUDENT are fairseq-train's
# options for the sizes of the two models.
set -euo pipefail
text=$1 out=$2
shift 2
types=${TYPES:-4000}
read -ra teacher <<<"${TEACHER:---decoder-layers 6 --decoder-embed-dim 512 --decoder-attention-heads 8 --dropout 0.3}"
read -ra student <<<"${STUDENT:---decoder-layers 2 --decoder-embed-dim 128 --decoder-attention-heads 2 --dropout 0.1}"

mkdir -p "$out/text"
python - "$text" "$out/text" "$types" <<'PYTHON'
import sys, sentencepiece as sp
text, out, types = sys.argv[1:]
sp.SentencePieceTrainer.train(input=f"{text}/train.txt", model_prefix=f"{out}/pieces", vocab_size=int(types),
                              model_type="bpe", minloglevel=2)
pieces = sp.SentencePieceProcessor(f"{out}/pieces.model")
for part in ("train", "valid"):
    with open(f"{text}/{part}.txt", encoding="utf-8") as raw, open(f"{out}/{part}", "w", encoding="utf-8") as to:
        to.writelines(" ".join(pieces.encode(line, out_type=str)) + "\n" for line in raw)
PYTHON
fairseq-preprocess --only-source --trainpref "$out/text/train" --validpref "$out/text/valid" --destdir "$out/bin"

common=("$out/bin" --arch transformer_lm --tokens-per-sample 128 --max-tokens 4096 --optimizer adam
    --adam-betas '(0.9, 0.98)' --lr 1e-3 --lr-scheduler inverse_sqrt --warmup-updates 200 --clip-norm 1.0
    --decoder-normalize-before --share-decoder-input-output-embed --no-epoch-checkpoints "$@")
fairseq-train "${common[@]}" --task language_modeling "${teacher[@]}" --save-dir "$out/teacher"
fairseq-train "${common[@]}" --task language_modeling "${student[@]}" --save-dir "$out/alone"
# From scratch, forward KL is the right choice: backward KL seeks modes, and a new student has none.
fairseq-train "${common[@]}" --user-dir "$(python -m ka_fairseq)" --task language_modeling_with_teacher \
    --teacher-path "$out/teacher/checkpoint_best.pt" --teacher-cache "$out/cache" --criterion forward_kl \
    --transfer-weight 0.5 "${student[@]}" --save-dir "$out/taught"

for model in teacher alone taught; do
    echo "$model: $(fairseq-eval-lm "$out/bin" --user-dir "$(python -m ka_fairseq)" --gen-subset valid \
        --path "$out/$model/checkpoint_best.pt" --tokens-per-sample 128 --sample-break-mode none 2>&1 |
        grep -o 'Perplexity: [0-9.]*')"
done
