#!/usr/bin/env bash
# The whole project at work on real text: sets up .venv, trains a student with each criterion beside a
# teacher that is there already, and prints the table.
#
#   scripts/demo.sh              output in runs/demo
#   scripts/demo.sh --quick      about 3 minutes: everything runs, nothing is learnt
#   scripts/demo.sh --full       larger students, trained four times as long: output in runs/demo-full
#   scripts/demo.sh --seeds 3    and compared over three seeds: runs/demo/compare/compare.md
#   scripts/demo.sh --train-teacher   trains the teacher too, in 40 minutes more
#   scripts/demo.sh --jobs 1     one training after the other, with a thread
#   PYTHON=python3.12 scripts/demo.sh
#
# Options of scripts/pipeline.sh may follow.
set -euo pipefail

scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
"$scripts/setup.sh"
exec "$scripts/pipeline.sh" demo "$@"
