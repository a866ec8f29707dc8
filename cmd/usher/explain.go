package main

import (
	"net/http"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"usher/server"
)

func explainCommand() *cobra.Command {
	var from string
	var fields []string
	cmd := &cobra.Command{
		Use:   "explain URL",
		Short: "Say what a request would meet, and why",
		Long: `Say which listener, site, mode, certificate, policies and backend a request for
URL would meet under the configuration, and why, and whether ACME would work for
its name. The URL of a raw port ([[forward]]) is tcp://HOST:PORT or
udp://HOST:PORT. Nothing is sent and no running process is asked.`,
		Example: "  usher explain https://blog.example.com/feed --from 192.0.2.7 -H 'Cookie: a=b'",
		Args:    exactly("URL"),
	}
	cmd.Flags().StringVar(&from, "from", "", "`IP` address of the client")
	cmd.Flags().StringArrayVarP(&fields, "header", "H", nil, "a field of the request, `'Name: value'`; may be repeated")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		request, err := imagined(cmd, args[0], from, fields)
		if err != nil {
			return err
		}
		file, err := configFile(cmd)
		if err != nil {
			return err
		}
		told, err := server.Explain(file, request)
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(cmd.OutOrStdout(), told)
		}
		t := newTable(cmd.OutOrStdout())
		for _, line := range told.Lines {
			t.row(line.Label, line.Text)
		}
		return t.flush()
	}
	return cmd
}

// imagined is the request that the flags describe.
func imagined(cmd *cobra.Command, url, from string, fields []string) (server.ExplainRequest, error) {
	r := server.ExplainRequest{URL: url, From: from, Header: make(http.Header)}
	if from != "" {
		if _, err := netip.ParseAddr(from); err != nil {
			return r, misused(cmd, "--from %q is not an IP address", from)
		}
	}
	for _, field := range fields {
		name, value, ok := strings.Cut(field, ":")
		if name = strings.TrimSpace(name); !ok || name == "" {
			return r, misused(cmd, "-H %q is not 'Name: value'", field)
		}
		r.Header.Add(name, strings.TrimSpace(value))
	}
	return r, nil
}
