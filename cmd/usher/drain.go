package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"usher/server/admin"
)

func drainCommand() *cobra.Command {
	return drainOrUndrain(true, "drain VM", "Send nothing new to a VM",
		`Send nothing new to a VM, which is a name of [vms] or an address. Exchanges and
tunnels under way go on; sticky sessions move to other VMs; a site that has no
other answers 503. It stays so over reloads and restarts, until undrain.`)
}

func undrainCommand() *cobra.Command {
	return drainOrUndrain(false, "undrain VM", "Use a drained VM again", "")
}

func drainOrUndrain(drained bool, use, short, long string) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Long: long, Args: exactly("VM")}
	adminFlag(cmd)
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		client := dial(cmd)
		defer client.Close()
		d, err := client.Drain(cmd.Context(), args[0], drained)
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(cmd.OutOrStdout(), d)
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), drainLine(d))
		return err
	}
	return cmd
}

func drainLine(d admin.Drained) string {
	switch {
	case !d.Drained:
		return d.VM + " takes new work"
	case d.Active == 0:
		return d.VM + " is drained and has no work left"
	default:
		return fmt.Sprintf("%s is drained; %d under way", d.VM, d.Active)
	}
}
