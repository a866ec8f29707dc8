package peer

import (
	"fmt"
	"syscall"

	"usher/bench/load"
	"usher/bench/machine"
)

// SNIProxy is Debian's. It does passthrough alone.
func SNIProxy() *Proxy {
	return &Proxy{Name: "sniproxy", Package: "sniproxy", Path: Find("sniproxy"), start: startSNIProxy, stop: syscall.SIGKILL, version: []string{"-V"}}
}

func startSNIProxy(p *Proxy, t *Task) (machine.Command, error) {
	user := "daemon"
	if t.Root {
		user = "root"
	}
	file, err := t.write("sniproxy.conf", fmt.Sprintf(`user %s
pidfile %s/sniproxy.pid
error_log {
	filename %s/error.log
	priority error
}
listener %s {
	proto tls
	table sites
}
table sites {
	%s %s
	%s %s
}
`, user, t.Dir, t.Dir, t.Pass, load.OnceName, t.Backend.Once, load.AskName, t.Backend.Ask))
	return machine.Command{Args: []string{p.Path, "-f", "-n", "20000", "-c", file}}, err
}
