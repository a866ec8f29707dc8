// Package telemetry is what every other package may write to: the access log,
// the program's log, counters and histograms. It imports nothing of ours.
//
// The access log never slows who writes to it: a line is encoded by the caller
// into a bounded queue, one goroutine (Log.Run) writes many lines at a time,
// and what does not fit is dropped and counted. Metrics are plain atomics that
// the caller holds a pointer to, so that nothing is looked up per request; one
// collector reads them when somebody scrapes.
package telemetry
