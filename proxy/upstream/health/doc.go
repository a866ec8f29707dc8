// Package health asks VMs whether they work. A check that several sites want
// of the same address is made once.
//
// When a state changes: an Unknown address is what its first check says; one
// that is new and refuses takes no work while somebody else can. Afterwards
// Fall failures in a row make it Unhealthy and Rise successes Healthy. While
// results contradict the state, checks come after an eighth of the interval:
// with the defaults (2 s, fall 3) a VM that was killed is out after 2.8 s at
// most, and one that came back is in again as fast.
//
// When checks are made: the first ones at once, half a millisecond apart, the
// others each interval with ±10 % by chance, the second at a moment of its own
// so that targets that came together spread. An interval counts from the
// beginning of a check, but the next one begins at least half an interval
// after its end. Nothing sleeps for a target: one goroutine has a heap of
// times, and a check has a goroutine only while it is made. At most 1,536 are
// made at once, of which 768 of targets that gave no answer the last time and
// 512 of those that are new: dead VMs, each of which keeps a check waiting for
// its timeout, can hold up neither those that live nor those that come.
//
// What it costs: for a thousand targets every 2 s about 3 % of one core over
// TCP, 6 % over HTTP, 12 % over HTTP/2 and gRPC, and 18 % over TLS, whose
// sessions are resumed (BenchmarkThousandTargets).
//
// What is seen of it: a TCP check of nobody (socket.Probe) and so without a
// PROXY header; the others make one connection each, begin it with a PROXY
// header that says that it is for nobody where the site's traffic has one, and
// let the VM close first, so that no end of it stays here in TIME_WAIT
// (HTTP/2 excepted: there it is ours, for a minute). HTTP has the User-Agent
// "usher-health"; redirects are statuses like others.
package health
