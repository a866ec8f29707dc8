#!/usr/bin/env bash
# Runs usher at half of what it can do on this machine, with all protocols and a
# reload every 10 s, and fails if memory, goroutines, descriptors or the latency
# grow, or if a request fails:
#
#   scripts/soak.sh [TIME]      10m by default; 24h for a day
set -euo pipefail
cd "$(dirname "$0")/../bench"
exec go run . soak -for "${1:-10m}"
