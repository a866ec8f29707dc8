package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"usher/server/admin"
)

func reloadCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Reload the configuration now",
		Long:  "Reload the configuration now and print what changed, or why it was refused.",
		Args:  exactly(),
	}
	adminFlag(cmd)
	force := cmd.Flags().Bool("force", false, "also take a file that lost all its sites, or over half of ten or more")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client := dial(cmd)
		defer client.Close()
		result, err := client.Reload(cmd.Context(), *force)
		if err != nil {
			return err
		}
		if *asJSON {
			err = printJSON(cmd.OutOrStdout(), result)
		} else {
			err = printReload(cmd.OutOrStdout(), result)
		}
		if err == nil && !result.OK {
			return fmt.Errorf("the configuration was refused, generation %d serves on: %s", result.Generation, result.Refused)
		}
		return err
	}
	return cmd
}

func printReload(out io.Writer, r admin.ReloadResult) error {
	t := newTable(out)
	for _, p := range r.Problems {
		t.row(problemLine(p))
	}
	for _, change := range r.Changes {
		t.row(change)
	}
	switch {
	case !r.OK:
	case len(r.Changes) == 0:
		t.row(fmt.Sprintf("generation %d, nothing changed", r.Generation))
	default:
		t.row(fmt.Sprintf("generation %d", r.Generation))
	}
	return t.flush()
}
