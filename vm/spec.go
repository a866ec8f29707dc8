package vm

import (
	"slices"
	"time"

	"usher/vm/discover"
)

// Spec is a VM of the configuration. Hooks are a program and its arguments;
// none if empty. The one word "builtin" is what the source of Discover can do.
type Spec struct {
	Name                 string
	Start, Stop, Restart []string
	StartTimeout         time.Duration  // from Start until it is reached; 60 s by default
	IdleStop             time.Duration  // without exchange and tunnel, until Stop; 0: never
	RestartAfter         time.Duration  // of failing checks, until Restart; 60 s by default
	RestartEvery         time.Duration  // at most one restart in this time; 10 min by default
	Discover             *discover.Spec // nil: its address is configured
}

func (s Spec) withDefaults() *Spec {
	if s.StartTimeout <= 0 {
		s.StartTimeout = time.Minute
	}
	if s.RestartAfter <= 0 {
		s.RestartAfter = time.Minute
	}
	if s.RestartEvery <= 0 {
		s.RestartEvery = 10 * time.Minute
	}
	return &s
}

func (s *Spec) hasHooks() bool { return len(s.Start)+len(s.Stop)+len(s.Restart) > 0 }

func builtin(argv []string) bool { return slices.Equal(argv, []string{"builtin"}) }
