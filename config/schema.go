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
	inSite         tableKind = "a site or [defaults]"
	inSiteTimeouts tableKind = "a site's timeouts"
	inCertificate  tableKind = "a site's certificate"
)

// keysOf lists the keys that a table may have.
func keysOf(kind tableKind) []string {
	switch kind {
	case inTop:
		return []string{"email", "state_dir", "include", "listen", "admin", "metrics", "log", "acme", "timeouts", "vms", "sites", "defaults"}
	case inIncluded:
		return []string{"sites", "vms"}
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
		return []string{"address"}
	case inCertificate:
		return []string{"cert", "key"}
	}
	return append([]string{
		"to", "paths", "certificate", "http", "http_port", "server_name", "ca_file", "insecure", "alpn",
		"proxy_protocol", "hsts", "timeouts",
	}, timeoutKeys(true)...)
}

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
	for _, kind := range []tableKind{inTop, inListen, inLog, inTimeouts, inSite, inACME} {
		if slices.Contains(keysOf(kind), key) {
			return kind, true
		}
	}
	return "", false
}
