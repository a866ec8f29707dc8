package main

import (
	"io"

	"github.com/spf13/cobra"
)

func completionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Print the completion script of a shell",
		Long: `Print the completion script of a shell. For bash, for instance:

  usher completion bash > /etc/bash_completion.d/usher`,
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		Args:      exactly("the shell"),
		RunE: func(cmd *cobra.Command, args []string) error {
			write := completionFor(cmd.Root(), args[0])
			if write == nil {
				return misused(cmd, "unknown shell %q", args[0])
			}
			return write(cmd.OutOrStdout())
		},
	}
}

func completionFor(root *cobra.Command, shell string) func(io.Writer) error {
	switch shell {
	case "bash":
		return func(w io.Writer) error { return root.GenBashCompletionV2(w, true) }
	case "zsh":
		return root.GenZshCompletion
	case "fish":
		return func(w io.Writer) error { return root.GenFishCompletion(w, true) }
	case "powershell":
		return root.GenPowerShellCompletionWithDesc
	}
	return nil
}
