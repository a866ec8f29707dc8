package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/term"
)

// cost takes some 200 ms: a guess should be slow, a request with a password
// must not be.
const cost = 12

// longestPassword is where bcrypt would silently stop to look.
const longestPassword = 72

func hashPasswordCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "hash-password",
		Short: "Make a hash for basic_auth",
		Long: `Read a password, from the terminal without echo or else the first line of
standard input, and print its bcrypt hash for basic_auth.`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			password, err := readPassword(cmd.InOrStdin(), cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			return printHash(cmd.OutOrStdout(), password)
		},
	}
}

func printHash(out io.Writer, password string) error {
	switch {
	case password == "":
		return errors.New("the password is empty")
	case len(password) > longestPassword:
		return fmt.Errorf("the password has %d bytes, bcrypt takes at most %d", len(password), longestPassword)
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(password), cost)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s\n", hash)
	return err
}

// readPassword asks twice on a terminal.
func readPassword(in io.Reader, prompt io.Writer) (string, error) {
	tty, ok := in.(*os.File)
	if !ok || !term.IsTerminal(int(tty.Fd())) {
		line, err := bufio.NewReader(in).ReadString('\n')
		if err != nil && err != io.EOF {
			return "", fmt.Errorf("read the password: %w", err)
		}
		return strings.TrimRight(line, "\r\n"), nil
	}
	defer restoreOnInterrupt(int(tty.Fd()))()
	first, err := askHidden(tty, prompt, "Password: ")
	if err != nil {
		return "", err
	}
	second, err := askHidden(tty, prompt, "Again: ")
	if err != nil {
		return "", err
	}
	if first != second {
		return "", errors.New("the two passwords differ")
	}
	return first, nil
}

func askHidden(tty *os.File, prompt io.Writer, label string) (string, error) {
	fmt.Fprint(prompt, label)
	password, err := term.ReadPassword(int(tty.Fd()))
	fmt.Fprintln(prompt)
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return string(password), nil
}

// restoreOnInterrupt keeps Ctrl-C from leaving a terminal without echo.
func restoreOnInterrupt(fd int) (stop func()) {
	state, err := term.GetState(fd)
	if err != nil {
		return func() {}
	}
	interrupts, end := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(interrupts, os.Interrupt)
	go func() {
		select {
		case <-interrupts:
			term.Restore(fd, state)
			os.Exit(failed)
		case <-end:
		}
	}()
	return func() {
		signal.Stop(interrupts)
		close(end)
	}
}
