package discover

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Start starts the guest, or resumes it.
func (p *proxmox) Start(ctx context.Context) (string, error) {
	g, state, err := p.locate(ctx)
	switch {
	case err != nil:
		return "", err
	case state.Status != "running":
		return p.task(ctx, g, "start", nil)
	case state.QMPStatus == "paused" || state.QMPStatus == "suspended":
		return p.task(ctx, g, "resume", nil)
	}
	return fmt.Sprintf("guest %d (%s) is %s already", g.VMID, g.Name, state.Status), nil
}

// Stop asks the guest to shut down and waits until it has. Proxmox gives up at
// the same time as we do.
func (p *proxmox) Stop(ctx context.Context) (string, error) {
	g, state, err := p.locate(ctx)
	switch {
	case err != nil:
		return "", err
	case state.Status != "running":
		return fmt.Sprintf("guest %d (%s) is %s already", g.VMID, g.Name, state.Status), nil
	}
	var form url.Values
	if end, limited := ctx.Deadline(); limited {
		form = url.Values{"timeout": {strconv.Itoa(max(1, int(time.Until(end).Seconds())-2))}}
	}
	return p.task(ctx, g, "shutdown", form)
}

// Restart resets a VM, as the button does. A container is killed and started.
func (p *proxmox) Restart(ctx context.Context) (string, error) {
	g, state, err := p.locate(ctx)
	switch {
	case err != nil:
		return "", err
	case state.Status != "running" || state.QMPStatus == "paused":
		return p.Start(ctx)
	case g.Type == "qemu":
		return p.task(ctx, g, "reset", nil)
	}
	stopped, err := p.task(ctx, g, "stop", nil)
	if err != nil {
		return stopped, err
	}
	started, err := p.task(ctx, g, "start", nil)
	return stopped + "\n" + started, err
}

// task has the guest's node do something and waits until it is done.
func (p *proxmox) task(ctx context.Context, g *guest, what string, form url.Values) (string, error) {
	body, err := p.api.do(ctx, http.MethodPost, g.path("status/"+what), form)
	if err != nil {
		return "", err
	}
	var begun struct{ Data string }
	if err := json.Unmarshal(body, &begun); err != nil || begun.Data == "" {
		return "", fmt.Errorf("proxmox's answer to %s of guest %d names no task: %.100q", what, g.VMID, body)
	}
	said := what + " of guest " + strconv.Itoa(int(g.VMID)) + ": " + begun.Data
	for {
		body, err := p.api.get(ctx, "/nodes/"+url.PathEscape(g.Node)+"/tasks/"+url.PathEscape(begun.Data)+"/status")
		if err != nil {
			return said, err
		}
		var task struct {
			Data struct{ Status, Exitstatus string }
		}
		if err := json.Unmarshal(body, &task); err != nil {
			return said, fmt.Errorf("proxmox's answer: %w", err)
		}
		switch ended := task.Data; {
		case ended.Status == "running":
		case ended.Exitstatus == "OK" || strings.HasPrefix(ended.Exitstatus, "WARNINGS"):
			return said + ": " + ended.Exitstatus, nil
		default:
			return said, fmt.Errorf("%s of guest %d: %.300q", what, g.VMID, ended.Exitstatus)
		}
		if !sleep(ctx, time.Second/2) {
			return said, fmt.Errorf("%s of guest %d is not done yet: %w", what, g.VMID, ctx.Err())
		}
	}
}
