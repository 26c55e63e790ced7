#!/usr/bin/env bash
# Makes a small git repository of sixteen commits. The eleventh makes the simulated server slower,
# and the eighth makes one that does not start.
#
#   make_repository.sh DIRECTORY
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
to=${1:?usage: make_repository.sh DIRECTORY}
mkdir "$to"
cp "$here/test_speed.py" "$here/pytest.ini" "$to"
cd "$to"
git init --quiet
printf '%s\n' __pycache__/ .pytest_cache/ > .gitignore

commit() { # MESSAGE ARGS
    echo "$2" > server.args
    echo "$1" >> CHANGES
    git add --all
    git -c user.name=toy -c user.email=toy@invalid commit --quiet --message "$1"
}

for number in $(seq 1 16); do
    itl=$((number < 11 ? 10 : 25))
    case $number in
        1) commit "Begin" "--ttft-ms 5 --itl-ms $itl" ;;
        8) commit "Rename a setting, wrongly" "--ttft-ms 5 --itl-ms $itl --fail-start 'no such setting'" ;;
        11) commit "Check every token twice" "--ttft-ms 5 --itl-ms $itl" ;;
        *) commit "Change $number" "--ttft-ms 5 --itl-ms $itl" ;;
    esac
done
git tag good "HEAD~15"
