package main

import (
	"os"

	"github.com/spf13/cobra"

	"usher/config"
	"usher/server/admin"
)

// adminFlag gives a command that talks to the running process --admin.
func adminFlag(cmd *cobra.Command) {
	cmd.Flags().String("admin", "",
		"admin `ADDR` of the running process, unix:PATH or IP:PORT (default: $USHER_ADMIN, [admin] of the configuration)")
}

// dial prepares a client for the running process. The configuration may be
// broken or missing: asking what goes on matters most then.
func dial(cmd *cobra.Command) *admin.Client { return admin.Dial(adminAddress(cmd)) }

func adminAddress(cmd *cobra.Command) string {
	if flag := cmd.Flag("admin"); flag.Changed {
		return flag.Value.String()
	}
	if addr := os.Getenv("USHER_ADMIN"); addr != "" {
		return addr
	}
	file, err := configFile(cmd)
	if err != nil {
		file = "" // of which AdminAddress knows the default
	}
	return config.AdminAddress(file)
}

// question is a command that asks the running process one thing and prints the
// answer, for people or for scripts.
func question[T any](use, short string, ask func(*admin.Client, *cobra.Command) (T, error), show func(*table, T)) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: exactly()}
	adminFlag(cmd)
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client := dial(cmd)
		defer client.Close()
		answer, err := ask(client, cmd)
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(cmd.OutOrStdout(), answer)
		}
		t := newTable(cmd.OutOrStdout())
		show(t, answer)
		return t.flush()
	}
	return cmd
}
