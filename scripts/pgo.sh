#!/bin/sh
# Makes cmd/usher/default.pgo anew: a CPU profile of usher under the bench, by
# which the compiler decides what to inline and how to lay it out. The binary
# that is measured for this writes profiles; the one that people get has no
# such code.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat > "$work/profile.go" <<'GO'
package main

import (
	"fmt"
	"os"
	"runtime/pprof"
	"time"
)

func init() {
	go func() {
		for n := 0; ; n++ {
			f, err := os.Create(fmt.Sprintf("%s/%d.%d.pprof", os.Getenv("USHER_PROFILES"), os.Getpid(), n))
			if err != nil || pprof.StartCPUProfile(f) != nil {
				return
			}
			time.Sleep(1500 * time.Millisecond)
			pprof.StopCPUProfile()
			f.Close()
		}
	}()
}
GO
printf '{"Replace":{"%s/cmd/usher/profile.go":"%s/profile.go"}}\n' "$PWD" "$work" > "$work/overlay.json"
go build -trimpath -pgo=off -overlay "$work/overlay.json" -o "$work/usher" ./cmd/usher
mkdir "$work/profiles"
(cd bench && USHER_PROFILES="$work/profiles" go run . -quick -rounds 2 -time 3s -peers "" -usher "$work/usher" -json "$work/run.json" \
	-rows h1-128,h1-10k,post-10k,tls-128,tls-full,tls-resumed,h2,h3,pass-new,log-128)
find "$work/profiles" -size -2k -delete # of a process that had hardly begun
go tool pprof -proto "$work"/profiles/*.pprof > cmd/usher/default.pgo
