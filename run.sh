#!/usr/bin/env bash
# bash run.sh train|eval|predict MODEL CONFIG [more flags, passed on]
set -euo pipefail
if [ $# -lt 3 ]; then
    echo "usage: bash run.sh train|eval|predict MODEL CONFIG [more flags]" >&2
    exit 2
fi
mode=$1 model=$2 config=$3
shift 3
case $mode in
    train | eval | predict) ;;
    *)
        echo "run.sh: $mode: expected train, eval or predict" >&2
        exit 2
        ;;
esac
exec "${PYTHON:-python}" "$(dirname "$0")/$mode.py" "--model_name=$model" "--config=$config" "$@"
