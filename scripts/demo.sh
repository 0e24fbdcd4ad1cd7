#!/usr/bin/env bash
# Runs the whole pipeline on real text: sets up .venv, trains a student with each criterion, and prints the
# table. The teacher is already trained: its files are in configs/demo/teacher.
#
#   scripts/demo.sh              output in runs/demo
#   scripts/demo.sh --quick      about 3 minutes: runs every stage; the models are not usable
#   scripts/demo.sh --full       students trained four times as long: output in runs/demo-full
#   scripts/demo.sh --seeds 3    also compares the methods over three seeds: runs/demo/compare/compare.md
#   scripts/demo.sh --train-teacher   trains the teacher too: 40 minutes more
#   scripts/demo.sh --jobs 1     runs one training at a time, with one thread
#   PYTHON=python3.12 scripts/demo.sh
#
# The options of scripts/pipeline.sh may follow (scripts/pipeline.sh --help).
set -euo pipefail

scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
for word in "$@"; do
    if [[ $word == -h || $word == --help ]]; then
        sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
        exit
    fi
done
"$scripts/setup.sh"
exec "$scripts/pipeline.sh" demo "$@"
