package peer

import (
	"fmt"
	"os"
	"syscall"

	"usher/bench/load"
	"usher/bench/machine"
)

// HAProxy is Debian's.
func HAProxy() *Proxy {
	return &Proxy{Name: "HAProxy", Package: "haproxy", Path: Find("haproxy"), start: startHAProxy, stop: syscall.SIGTERM, version: []string{"-v"}}
}

// startHAProxy: one thread for one core, connections to the backend shared,
// splicing where it helps, with larger pipes; its manual has buffers left as they
// are. It cannot log to a file itself; its manual has it
// write to stdout, which is the file.
func startHAProxy(p *Proxy, t *Task) (c machine.Command, err error) {
	log := ""
	if t.Log != "" {
		log = `	log stdout format raw local0
	log-format '{"time":"%T","client":"%ci","host":"%[capture.req.hdr(0)]","method":"%HM","path":"%HP","proto":"%HV","status":%ST,"bytes":%B,"duration":%Ta,"upstream":"%si:%sp","user_agent":"%[capture.req.hdr(1)]"}'`
		if c.Stdout, err = os.OpenFile(t.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
			return c, err
		}
	}
	capture := ""
	if t.Log != "" {
		capture = "	http-request capture req.hdr(host) len 64\n	http-request capture req.hdr(user-agent) len 64\n"
	}
	file, err := t.write("haproxy.cfg", fmt.Sprintf(`global
	nbthread 1
	maxconn 9400
	maxpipes 256
	tune.ssl.cachesize 100000
	tune.pipesize 262144
	ssl-default-bind-options ssl-min-ver TLSv1.2 prefer-client-ciphers
defaults
	mode http
	timeout client 1h
	timeout server 1h
	timeout connect 5s
	timeout http-keep-alive 1h
	timeout tunnel 1h
	option http-keep-alive
	http-reuse always
	option splice-request
	option splice-response
	maxconn 9400
frontend web
	bind %[1]s backlog 4096
	bind %[2]s backlog 4096 ssl crt %[3]s alpn h2,http/1.1
%[4]s
%[5]s	use_backend vm if { req.hdr(host),host_only -i %[6]s }
backend vm
	server a %[7]s pool-max-conn -1
frontend pass
	mode tcp
	bind %[8]s backlog 4096
	tcp-request inspect-delay 5s
	tcp-request content accept if { req.ssl_hello_type 1 }
	use_backend once if { req.ssl_sni -i %[9]s }
	use_backend ask if { req.ssl_sni -i %[10]s }
backend once
	mode tcp
	server a %[11]s
backend ask
	mode tcp
	server a %[12]s
`, t.Plain, t.TLS, t.Both, log, capture, load.Name, t.Backend.HTTP, t.Pass, load.OnceName, load.AskName, t.Backend.Once, t.Backend.Ask))
	c.Args = []string{p.Path, "-db", "-q", "-f", file}
	return c, err
}
