package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"usher/config"
)

// Exit statuses.
const (
	done       = 0
	failed     = 1
	wrongUsage = 2
)

// usageError is a command line that cannot be meant.
type usageError struct {
	command string // whose help may be of use
	err     error
}

func (e *usageError) Error() string { return fmt.Sprintf("%v (see `%s --help`)", e.err, e.command) }
func (e *usageError) Unwrap() error { return e.err }

func misused(cmd *cobra.Command, format string, a ...any) error {
	return &usageError{cmd.CommandPath(), fmt.Errorf(format, a...)}
}

// errHelp: what is wrong was answered with the help.
var errHelp = errors.New("no command")

// report turns the outcome of a command into its exit status, and its reason
// into one line.
func report(stderr io.Writer, err error) int {
	if err == nil {
		return done
	}
	if err == errHelp {
		return wrongUsage
	}
	line := strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
	fmt.Fprintln(stderr, "usher:", printable(line))
	if usage := (*usageError)(nil); errors.As(err, &usage) {
		return wrongUsage
	}
	return failed
}

// newRoot is the command line as a tree of commands.
func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "usher",
		Short:         "One public address, many virtual machines behind it",
		Long:          "usher owns ports 80 and 443 and hands each connection to the VM that owns the site.",
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SetOut(cmd.ErrOrStderr())
			cmd.Help()
			return errHelp
		},
	}
	root.PersistentFlags().StringP("config", "c", "",
		"configuration `FILE` (default: $USHER_CONFIG, ./config.toml, /etc/usher/config.toml)")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return misused(cmd, "%w", err) })
	root.SetVersionTemplate("usher {{.Version}}\n")
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(
		runCommand(), checkCommand(), explainCommand(),
		statusCommand(), sitesCommand(), vmsCommand(), certsCommand(), reloadCommand(),
		drainCommand(), undrainCommand(),
		hashPasswordCommand(), importCommand(), versionCommand(), completionCommand(),
	)
	root.SetHelpCommand(helpCommand())
	return root
}

// knownCommand is asked about what follows the program's name when it is not a
// command.
func knownCommand(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	root.SuggestionsMinimumDistance = 2
	if near := root.SuggestionsFor(args[0]); len(near) > 0 {
		return misused(root, "unknown command %q, did you mean %q?", args[0], near[0])
	}
	return misused(root, "unknown command %q", args[0])
}

func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "help [COMMAND]",
		Short:  "Help about a command",
		Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return misused(cmd.Root(), "unknown command %q", strings.Join(args, " "))
			}
			about.InitDefaultHelpFlag() // as --help does
			return about.Help()
		},
	}
}

// exactly wants as many arguments as there are names.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return misused(cmd, "%s is missing", names[len(args)])
		}
		return atMost(len(names))(cmd, args)
	}
}

func atMost(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > n {
			return misused(cmd, "unexpected argument %q", args[n])
		}
		return nil
	}
}

// configFile is the file of -c, or the default one.
func configFile(cmd *cobra.Command) (string, error) {
	flag := cmd.Flag("config")
	if flag.Changed {
		return flag.Value.String(), nil
	}
	return config.DefaultFile()
}
