#!/usr/bin/env bash
# Compares the Go benchmarks of this tree with those of another commit, in turns,
# since a machine is never the same for long:
#
#   bench/diff.sh [-n COUNT] [-t BENCHTIME] [-b REGEXP] [COMMIT] [PACKAGE...]
#
# COMMIT is HEAD if Go files have changed since, else the one before it. The
# packages are those that have benchmarks. Nothing is left behind.
set -euo pipefail
count=6 time=200ms regexp=.
while getopts n:t:b: flag; do
	case $flag in
	n) count=$OPTARG ;;
	t) time=$OPTARG ;;
	b) regexp=$OPTARG ;;
	*) exit 2 ;;
	esac
done
shift $((OPTIND - 1))
cd "$(dirname "$0")/.."
commit=${1:-}
if [ -z "$commit" ]; then
	commit=HEAD
	! git diff --quiet HEAD -- '*.go' go.mod || commit=HEAD^
fi
shift $(($# > 0 ? 1 : 0))
packages=("$@")
if [ ${#packages[@]} -eq 0 ]; then
	mapfile -t packages < <(git grep -l '^func Benchmark' -- '*_test.go' ':!e2e' ':!bench' | xargs -n1 dirname | sort -u | sed 's|^|./|')
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM
mkdir "$dir/old"
git archive "$commit" | tar -x -C "$dir/old"
new=$PWD
echo "$(git rev-parse --short "$commit") is old, this tree is new; $count turns of $time" >&2
for turn in $(seq "$count"); do
	for package in "${packages[@]}"; do
		# The side that goes first changes from turn to turn.
		for side in $([ $((turn % 2)) -eq 0 ] && echo old new || echo new old); do
			tree=$([ "$side" = old ] && echo "$dir/old" || echo "$new")
			[ -d "$tree/$package" ] || continue
			(cd "$tree" && go test "$package" -run '^$' -bench "$regexp" -benchmem -benchtime "$time" >>"$dir/$side.txt")
		done
	done
	echo -n . >&2
done
echo >&2
cd bench && go tool benchstat "old=$dir/old.txt" "new=$dir/new.txt"
