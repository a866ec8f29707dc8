package discover

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Start starts the domain once it is off, or wakes it.
func (l *libvirt) Start(ctx context.Context) (string, error) {
	for {
		state, err := l.state(ctx)
		if err != nil {
			return "", err
		}
		switch state {
		case "in shutdown": // and cannot be started before it is through
			if !sleep(ctx, hurried) {
				return "", fmt.Errorf("domain %q is still in shutdown: %w", l.spec.Domain, ctx.Err())
			}
		case "paused":
			return l.do(ctx, "resume")
		case "pmsuspended":
			return l.do(ctx, "dompmwakeup")
		case "shut off", "crashed":
			return l.do(ctx, "start")
		default:
			return fmt.Sprintf("domain %q is %s already", l.spec.Domain, state), nil
		}
	}
}

// Stop asks the guest to shut down and waits until it has.
func (l *libvirt) Stop(ctx context.Context) (string, error) {
	said := ""
	for {
		state, err := l.state(ctx)
		switch {
		case Off(err): // a transient domain is gone when it is off
			return said, nil
		case err != nil:
			return said, err
		case !running(state):
			return said, nil
		}
		if said == "" && state != "in shutdown" {
			if said, err = l.do(ctx, "shutdown"); err != nil {
				return said, err
			}
		}
		if !sleep(ctx, time.Second/2) {
			return said, fmt.Errorf("domain %q was asked to shut down and is still %s: %w", l.spec.Domain, state, ctx.Err())
		}
	}
}

// Restart resets the domain, as the button does.
func (l *libvirt) Restart(ctx context.Context) (string, error) {
	state, err := l.state(ctx)
	switch {
	case err != nil:
		return "", err
	case state == "running":
		return l.do(ctx, "reset")
	}
	return l.Start(ctx)
}

func (l *libvirt) do(ctx context.Context, what string) (string, error) {
	printed, err := l.virsh(ctx, what, "--domain", l.spec.Domain)
	if said := strings.TrimSpace(string(printed)); said != "" || err != nil {
		return said, err
	}
	return what + " " + l.spec.Domain, nil
}
