package peer

import (
	"fmt"
	"path/filepath"
	"syscall"

	"usher/bench/load"
	"usher/bench/machine"
)

// Caddy is Debian's.
func Caddy() *Proxy {
	return &Proxy{Name: "Caddy", Package: "caddy", Path: Find("caddy"), start: startCaddy, stop: syscall.SIGKILL, version: []string{"version"}}
}

// startCaddy: enough idle connections to the backend for all clients of a row,
// and no compression asked of it.
func startCaddy(p *Proxy, t *Task) (machine.Command, error) {
	log := ""
	if t.Log != "" {
		log = fmt.Sprintf("\tlog {\n\t\toutput file %s {\n\t\t\troll_disabled\n\t\t}\n\t\tformat json\n\t}", t.Log)
	}
	file, err := t.write("Caddyfile", fmt.Sprintf(`{
	admin off
	auto_https off
	default_bind %[8]s
	servers {
		protocols h1 h2 h3
	}
	log default {
		level WARN
	}
}
(site) {
%[1]s
	reverse_proxy %[2]s {
		transport http {
			keepalive_idle_conns 1024
			keepalive_idle_conns_per_host 1024
			compression off
		}
	}
}
http://%[3]s:%[4]d {
	import site
}
https://%[3]s:%[5]d {
	tls %[6]s %[7]s
	import site
}
`, log, t.Backend.HTTP, load.Name, t.Plain.Port(), t.TLS.Port(), t.Cert, t.Key, t.Plain.Addr()))
	home := filepath.Join(t.Dir, "home")
	return machine.Command{
		Args: []string{p.Path, "run", "--config", file, "--adapter", "caddyfile"},
		Env:  []string{"HOME=" + home, "XDG_DATA_HOME=" + home, "XDG_CONFIG_HOME=" + home},
	}, err
}
