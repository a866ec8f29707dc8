package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"usher/config"
)

func checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Print every problem of the configuration",
		Long:  "Print every problem of the configuration at once, as FILE:LINE:COL: message.\nThe exit status is 1 if there is one.",
		Args:  exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			file, err := configFile(cmd)
			if err != nil {
				return err
			}
			return check(cmd.OutOrStdout(), file)
		},
	}
}

func check(out io.Writer, file string) error {
	var loader config.Loader
	conf, problems := loader.Load(file)
	for _, p := range problems {
		if _, err := fmt.Fprintln(out, printable(p.Error())); err != nil {
			return err
		}
	}
	switch n := len(problems) - 1; {
	case n == 0:
		return errors.New(problems[0].Error())
	case n > 0:
		return fmt.Errorf("%w (and %d more)", problems[0], n)
	}
	_, err := fmt.Fprintf(out, "%s: ok, %s\n", file, count(len(conf.Sites), "site"))
	return err
}
