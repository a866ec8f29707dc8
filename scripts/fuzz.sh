#!/usr/bin/env bash
# Runs every fuzz target in the tree, one after the other, for a time (30s) or a
# number of inputs (10000x). A number is the one to use where the result counts:
# Go's fuzzer sometimes reports the end of its own time as a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-30s}
count=0
while IFS=: read -r file _ line; do
	target=$(sed -E 's/^func (Fuzz[A-Za-z0-9_]*).*/\1/' <<<"$line")
	package=./$(dirname "$file")
	amount=$time
	# A schedule is some hundred system calls in each of several modes.
	[[ $time == *x && $target == FuzzSchedule ]] && amount=$((${time%x} / 20))x
	echo "fuzzing $target in $package for $amount"
	go test "$package" -run '^$' -fuzz "^$target\$" -fuzztime "$amount" -fuzzminimizetime 10x
	count=$((count + 1))
done < <(git grep -n '^func Fuzz' -- '*_test.go' ':!e2e')
[ "$count" -gt 0 ] || { echo "no fuzz target found" >&2; exit 1; }
echo "$count fuzz targets ran for $time each"
