#!/usr/bin/env bash
# Runs every fuzz target in the tree for a time (30s), one after the other.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-30s}
count=0
while IFS=: read -r file _ line; do
	target=$(sed -E 's/^func (Fuzz[A-Za-z0-9_]*).*/\1/' <<<"$line")
	package=./$(dirname "$file")
	echo "fuzzing $target in $package for $time"
	go test "$package" -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 10x
	count=$((count + 1))
done < <(git grep -n '^func Fuzz' -- '*_test.go' ':!e2e')
[ "$count" -gt 0 ] || { echo "no fuzz target found" >&2; exit 1; }
echo "$count fuzz targets ran for $time each"
