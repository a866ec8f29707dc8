//go:build race

package telemetry

// raceEnabled: the race detector makes sync.Pool drop at random.
const raceEnabled = true
