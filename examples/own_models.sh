#!/usr/bin/env bash
# Make a small int8 translator from a data-bin and a teacher:
#
#   examples/own_models.sh DATA TEACHER OUT --sentencepiece MODEL [-- FAIRSEQ-TRAIN'S OPTIONS]
#
# DATA     the data-bin that fairseq-preprocess wrote
# TEACHER  a checkpoint of fairseq-train, trained on DATA's dictionaries
# OUT      the folder for all results; the script makes it
#
# Say how raw text becomes the subwords of DATA by one of these options:
#   --sentencepiece MODEL    a sentencepiece model
#   --bpe-codes CODES        codes of subword-nmt
#   --no-segmentation        the model reads words
# The other options of docs/deploy.md, such as --moses, may stand before or after it.
#
# The student is trained from scratch on the teacher's translations, with word-level distillation.
# Set its size and the length of the training by options of fairseq-train, after --:
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
method='' moses=()
for word in ${segmentation[@]+"${segmentation[@]}"}; do
    case $word in
        --sentencepiece | --bpe-codes | --no-segmentation) method=$word ;;
        --moses) moses=(sacremoses) ;;
    esac
done
case $method in
    --sentencepiece) needs=(sentencepiece google.protobuf) words=(--sentencepiece) ;;
    --bpe-codes) needs=(subword_nmt) words=(--remove-bpe) ;;
    --no-segmentation) needs=() words=() ;;
    *)
        echo "error: the segmentation is missing (given: ${segmentation[*]-no option}): choose" \
            "--sentencepiece MODEL, --bpe-codes CODES or --no-segmentation" >&2
        exit 2
        ;;
esac
needs+=(${moses[@]+"${moses[@]}"})

# Check all needs first, and report everything that is missing at once.
missing=()
while read -r name; do missing+=("$name"); done < <(
    python - ka_fairseq fairseq ctranslate2 fastchrf "${needs[@]}" <<'PYTHON'
import importlib.util
import sys

for name in sys.argv[1:]:
    try:
        there = importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # the module's package is missing
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
