// Package vm is the life of the machines behind usher: drained or not, asleep,
// starting, idle, to be restarted; and where discovery says that they are.
//
// A machine with a start hook sleeps until somebody wants it: Start runs the
// hook once for all who ask, and the machine is starting until it is reached or
// its start_timeout has passed. A start that fails is not tried again for 5 s,
// doubling up to 60 s, until the machine is reached. With idle_stop the stop
// hook runs after that time without exchange and tunnel, never with one; the
// clock begins anew with usher.
//
// The restart hook runs when checks of a machine have failed for restart_after
// and no checked address of it is healthy, at most once in restart_every; never
// for one that is asleep, starting, stopping or drained. A drained machine is
// left alone altogether: no hook of it begins.
//
// At most one hook of a machine runs at a time. Start hooks have start_timeout,
// the others 60 s.
package vm
