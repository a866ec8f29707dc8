package config

import "slices"

// tableKind is a kind of table, by the name that messages give it.
type tableKind string

// The kinds of tables with a fixed set of keys.
const (
	inTop          tableKind = "the main file, before the first table"
	inIncluded     tableKind = "an included file"
	inListen       tableKind = "[listen]"
	inAdmin        tableKind = "[admin]"
	inMetrics      tableKind = "[metrics]"
	inLog          tableKind = "[log]"
	inACME         tableKind = "[acme]"
	inFallback     tableKind = "an entry of fallback in [acme]"
	inTimeouts     tableKind = "[timeouts]"
	inVM           tableKind = "a VM's table"
	inDiscover     tableKind = "discover of a VM"
	inSite         tableKind = "a site or [defaults]"
	inSiteTimeouts tableKind = "a site's timeouts"
	inCertificate  tableKind = "a site's certificate"
	inBackend      tableKind = "a backend's table"
	inBalance      tableKind = "balance"
	inSticky       tableKind = "sticky"
	inHealth       tableKind = "health"
	inForward      tableKind = "[[forward]]"
	inForwardSNI   tableKind = "sni of [[forward]]"

	inForwardTimeouts tableKind = "timeouts of [[forward]]"
)

// keysOf lists the keys that a table may have.
func keysOf(kind tableKind) []string {
	switch kind {
	case inTop:
		return []string{"email", "state_dir", "include", "listen", "admin", "metrics", "log", "acme", "timeouts", "vms", "sites", "defaults", "forward"}
	case inIncluded:
		return []string{"sites", "vms", "forward"}
	case inListen:
		return []string{"http", "https", "http3", "public_https_port", "proxy_protocol_from", "trusted_proxies"}
	case inAdmin, inMetrics:
		return []string{"listen"}
	case inLog:
		return []string{"access", "query", "level"}
	case inACME:
		return []string{"directory", "ca_file", "fallback", "eab_kid", "eab_key"}
	case inFallback:
		return []string{"directory", "ca_file", "eab_kid", "eab_key"}
	case inTimeouts:
		return timeoutKeys(false)
	case inSiteTimeouts:
		return timeoutKeys(true)
	case inVM:
		return []string{
			"address", "discover", "max_conns", "health", "start", "start_timeout", "stop", "idle_stop",
			"restart", "restart_after", "restart_every",
		}
	case inDiscover:
		keys := []string{"source", "interval"}
		for _, source := range sources() {
			keys = append(keys, sourceKeys(source)...)
		}
		return keys
	case inCertificate:
		return []string{"cert", "key"}
	case inBackend:
		return []string{"to", "weight", "backup", "max_conns"}
	case inBalance:
		return []string{BalanceHeader, BalanceCookie}
	case inSticky:
		return []string{"cookie", "ttl"}
	case inHealth:
		return []string{
			"type", "path", "method", "host", "status", "body", "service", "interval", "timeout", "rise", "fall", "port",
		}
	case inForward:
		return append([]string{
			"listen", "protocol", "to", "sni", "proxy_protocol", "balance", "slow_start", "max_conns", "queue", "queue_timeout",
			"health", "ejection", "transparent", "timeouts",
		}, forwardTimeouts()...)
	case inForwardTimeouts:
		return forwardTimeouts()
	case inForwardSNI:
		return []string{"to", "certificate"}
	}
	return append([]string{
		"to", "paths", "certificate", "http", "http_port", "server_name", "ca_file", "insecure", "alpn",
		"proxy_protocol", "hsts", "balance", "sticky", "slow_start", "max_conns", "queue", "queue_timeout",
		"adaptive_concurrency", "health", "ejection", "transparent", "error_pages", "maintenance", "timeouts",
	}, timeoutKeys(true)...)
}

// forwardTimeouts are those that matter where nothing is understood.
func forwardTimeouts() []string { return []string{"connect", "tunnel_idle", "hold"} }

func timeoutKeys(perSite bool) (keys []string) {
	for _, one := range new(Timeouts).each() {
		if one.perSite || !perSite {
			keys = append(keys, one.key)
		}
	}
	return keys
}

// home is the table in which a key is known, if there is one that users mix up
// with others.
func home(key string) (tableKind, bool) {
	for _, kind := range []tableKind{inTop, inListen, inLog, inTimeouts, inSite, inACME, inVM, inForward, inBackend} {
		if slices.Contains(keysOf(kind), key) {
			return kind, true
		}
	}
	return "", false
}
