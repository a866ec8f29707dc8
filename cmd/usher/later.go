package main

import (
	"errors"

	"github.com/spf13/cobra"
)

func importCommand() *cobra.Command {
	cmd := laterCommand("import nginx|haproxy|caddy FILE...",
		"Print the TOML for an existing configuration (comes later)", importArgs)
	cmd.ValidArgs = []string{"nginx", "haproxy", "caddy"}
	return cmd
}

func importArgs(cmd *cobra.Command, args []string) error {
	if len(args) < 2 {
		return exactly("the kind of configuration", "FILE")(cmd, args)
	}
	switch args[0] {
	case "nginx", "haproxy", "caddy":
		return nil
	}
	return misused(cmd, "unknown kind of configuration %q", args[0])
}

// laterCommand is a command of a later version: it takes its arguments and says
// so.
func laterCommand(use, short string, args cobra.PositionalArgs) *cobra.Command {
	return &cobra.Command{
		Use:   use,
		Short: short,
		Args:  args,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return errors.New(cmd.Name() + " comes with a later version")
		},
	}
}
