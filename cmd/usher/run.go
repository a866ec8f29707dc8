package main

import (
	"github.com/spf13/cobra"

	"usher/server"
)

func runCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "Serve",
		Long: `Serve until SIGTERM or SIGINT, which drain; a second one ends at once.
SIGHUP, or saving the configuration, reloads it.`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			file, err := configFile(cmd)
			if err != nil {
				return err
			}
			return server.Run(cmd.Context(), server.Options{
				File:    file,
				Version: version(),
				Stdout:  cmd.OutOrStdout(),
				Stderr:  cmd.ErrOrStderr(),
			})
		},
	}
}
