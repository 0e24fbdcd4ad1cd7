#!/usr/bin/env bash
# A data-bin and a teacher in, a small int8 translator out; no other model is needed:
#
#   examples/own_models.sh DATA TEACHER OUT --sentencepiece MODEL [-- FAIRSEQ-TRAIN'S OPTIONS]
#
# DATA is what fairseq-preprocess wrote, TEACHER a checkpoint of fairseq-train's that reads it; OUT is
# made. How raw text becomes DATA's subwords: --sentencepiece MODEL, --bpe-codes CODES, or
# --no-segmentation where words are what the model reads (more of it: docs/deploy.md).
#
# The student is trained from nothing on the teacher's translations, beside the teacher word by word.
# Its size and the length of the training are fairseq-train's options, behind --:
#   … -- --arch transformer_iwslt_de_en --max-epoch 30
set -euo pipefail

usage() {
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

(($# > 3)) || usage
data=$1 teacher=$2 out=$3
shift 3
segmentation=()
while (($#)) && [[ $1 != -- ]]; do
    segmentation+=("$1")
    shift
done
(($#)) && shift
case ${segmentation[0]-} in
    --sentencepiece) needs=(sentencepiece google.protobuf) words=(--sentencepiece) ;;
    --bpe-codes) needs=(subword_nmt) words=(--remove-bpe) ;;
    --no-segmentation) needs=() words=() ;;
    *) usage ;;
esac

# All that is missing is told at once, and before hours of training.
missing=()
while read -r name; do missing+=("$name"); done < <(
    python - ka_fairseq fairseq ctranslate2 fastchrf "${needs[@]}" <<'PYTHON'
import importlib.util
import sys

for name in sys.argv[1:]:
    try:
        there = importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # of the package that the module is in
        there = False
    if not there:
        print(f"Python's {name}: pip install 'ka-fairseq[export]'")
PYTHON
)
command -v fairseq-train >/dev/null || missing+=("fairseq-train, on the PATH")
[[ -f $teacher ]] || missing+=("the teacher, $teacher")
compgen -G "$data/dict.*.txt" >/dev/null || missing+=("dictionaries in $data: what fairseq-preprocess wrote")
compgen -G "$data/train.*.bin" >/dev/null || missing+=("a training split in $data")
compgen -G "$data/valid.*.bin" >/dev/null || missing+=("a validation split in $data")
for word in "${segmentation[@]:1}"; do
    [[ $word == --* || -e $word || $word =~ ^([0-9]+|NFK?[CD])$ ]] || missing+=("the segmentation's file, $word")
done
if ((${#missing[@]})); then
    printf 'error: missing: %s\n' "${missing[@]}" >&2
    exit 1
fi

python -m ka_fairseq.distill "$data" --path "$teacher" --destdir "$out/distilled" "${words[@]}"
fairseq-train "$out/distilled" --user-dir "$(python -m ka_fairseq)" \
    --task translation_with_teacher --teacher-path "$teacher" --teacher-data "$data" \
    --teacher-cache "$out/cache" --criterion forward_kl --transfer-weight 0.9 --label-smoothing 0.1 \
    --arch transformer_iwslt_de_en --dropout 0.1 --optimizer adam --adam-betas '(0.9, 0.98)' \
    --lr 5e-4 --lr-scheduler inverse_sqrt --warmup-updates 2000 --clip-norm 1.0 --max-tokens 4096 \
    --required-batch-size-multiple 1 --save-dir "$out/student" "$@"
python -m ka_fairseq.export "$out/student/checkpoint_best.pt" "$out/int8" --to ctranslate2 \
    --data "$data" "${segmentation[@]}"
echo "to translate: python $out/int8/translate.py < text"
