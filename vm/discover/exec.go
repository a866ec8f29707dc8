package discover

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"usher/vm/command"
)

// program is a program of the user's that prints addresses.
type program struct{ spec Spec }

// Addresses runs the program. Nothing printed is an error, since a pipeline of
// which the first part failed prints nothing.
func (p *program) Addresses(ctx context.Context) ([]netip.Addr, error) {
	printed, err := command.Output(ctx, p.spec.Command, []string{"USHER_VM=" + p.spec.Name})
	if err != nil {
		return nil, err
	}
	addresses, err := parseLines(string(printed))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.spec.Command[0], err)
	}
	return addresses, nil
}

// parseLines reads addresses that white space separates, with or without the
// length of their network. What follows a "#" is a comment.
func parseLines(text string) ([]netip.Addr, error) {
	var all []netip.Addr
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		for _, word := range strings.Fields(line) {
			a, ok := parseAddress(word)
			if !ok {
				return nil, fmt.Errorf("%.60q is no address", word)
			}
			all = append(all, a)
		}
	}
	if all = tidy(all); len(all) == 0 {
		return nil, errors.New("printed no address that can be used")
	}
	return all, nil
}
