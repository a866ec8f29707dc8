package e2e

import (
	"fmt"
	"strings"
	"testing"

	"usher/e2e/peer"
	"usher/e2e/rig"
	"usher/e2e/strict"
)

// TestHealthChecks: every kind of check finds what works and what does not.
func TestHealthChecks(t *testing.T) {
	t.Parallel()
	ca, dir := peer.NewCA(t), t.TempDir()
	peer.Replace(t, dir+"/ca.pem", ca.PEM)
	answer := func(l *peer.Link, q *strict.Request) bool {
		switch q.Method + " " + q.Target {
		case "GET /good", "HEAD /head":
			return l.Say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n" + map[string]string{"GET": "fine"}[q.Method])
		case "GET /teapot":
			return l.Say("HTTP/1.1 418 Teapot\r\nContent-Length: 0\r\n\r\n")
		}
		return l.Say("HTTP/1.1 500 Bad\r\nContent-Length: 0\r\n\r\n")
	}
	plain, secure := peer.Listen(t, peer.Each(answer)), peer.ListenTLS(t, ca.Server("secure.test"), peer.Each(answer))
	silent, deaf := peer.Listen(t, peer.Silent), peer.Listen(t, peer.Answer("what?"))
	serving, failing := healthVM(t, true), healthVM(t, false)
	gone := rig.FreePort(t, rig.LoopbackIP())
	type want struct{ to, health, state, reason string }
	cases := map[string]want{
		"get":      {"http://" + plain.Addr, `path = "/good"`, "healthy", ""},
		"body":     {"http://" + plain.Addr, `path = "/good", body = "fine"`, "healthy", ""},
		"nobody":   {"http://" + plain.Addr, `path = "/good", body = "splendid"`, "unhealthy", "splendid"},
		"status":   {"http://" + plain.Addr, `path = "/teapot", status = "200,418"`, "healthy", ""},
		"bad":      {"http://" + plain.Addr, `path = "/teapot"`, "unhealthy", "418"},
		"head":     {"http://" + plain.Addr, `path = "/head", method = "HEAD"`, "healthy", ""},
		"https":    {"https://" + secure.Addr, `path = "/good"`, "healthy", ""},
		"tls":      {"https://" + secure.Addr, `type = "tls"`, "healthy", ""},
		"pass":     {"passthrough://" + secure.Addr, ``, "healthy", ""},
		"notls":    {"passthrough://" + deaf.Addr, `timeout = "500ms"`, "unhealthy", "tls"},
		"tcp":      {"http://" + silent.Addr, `type = "tcp"`, "healthy", ""},
		"silent":   {"http://" + silent.Addr, `path = "/", timeout = "200ms"`, "unhealthy", "200ms"},
		"port":     {"http://" + gone, `path = "/good", port = ` + port(plain.Addr), "unhealthy", "refused"},
		"grpc":     {"h2c://" + serving, `type = "grpc"`, "healthy", ""},
		"service":  {"h2c://" + serving, `type = "grpc", service = "nosuch"`, "unhealthy", "nosuch"},
		"grpcdown": {"h2c://" + failing, `type = "grpc"`, "unhealthy", "NOT_SERVING"},
		"gone":     {"http://" + gone, `type = "tcp"`, "unhealthy", "refused"},
	}
	var body strings.Builder
	body.WriteString("[sites]\n")
	for name, c := range cases {
		sep := ", "
		if c.health == "" {
			sep = ""
		}
		fmt.Fprintf(&body, "[sites.%q]\nto = %q\nhealth = { interval = \"200ms\", fall = 1%s%s }\n", map[bool]string{true: "secure.test", false: name + ".test"}[name == "https"], c.to, sep, c.health)
		if strings.HasPrefix(c.to, "https") && name == "https" {
			fmt.Fprintf(&body, "ca_file = %q\n", dir+"/ca.pem")
		}
		if name == "tls" {
			fmt.Fprintf(&body, "insecure = true\n")
		}
	}
	u := builds.Start(t, rig.Config{Body: body.String()})
	for name, c := range cases {
		_, address, _ := strings.Cut(c.to, "://")
		found := false
		var last vmState
		rig.Eventually(t, name+": a check of "+address+" is "+c.state, func() bool {
			last = vmStates(t, u)[address]
			for _, check := range last.Checks {
				if check.State == c.state && strings.Contains(strings.ToLower(check.Reason), strings.ToLower(c.reason)) {
					found = true
				}
			}
			return found
		})
	}
	for _, v := range []*peer.VM{plain, secure} {
		for _, err := range v.Faults() {
			t.Errorf("a check is no proper request: %v", err)
		}
	}
	if strings.Contains(u.Access.String(), "/good") {
		t.Error("checks are in the access log")
	}
}

// TestChecksAreShared: sites that ask the same of an address ask once, a reload
// asks nothing again, and what is new is asked at once.
func TestChecksAreShared(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Each(func(l *peer.Link, q *strict.Request) bool {
		return l.Say("HTTP/1.1 500 Bad\r\nContent-Length: 0\r\n\r\n")
	}))
	fresh := peer.Listen(t, peer.Name("fresh"))
	body := fmt.Sprintf(`[defaults]
http = "forward"
health = { path = "/up", host = "vm", interval = "1h", fall = 1 }
[sites]
"a.test" = "http://%[1]s"
"b.test" = "http://%[1]s"
"c.test" = "http://%[1]s"
`, vm.Addr)
	u := builds.Start(t, rig.Config{Body: body})
	v := become(t, u, vm.Addr, "unhealthy")
	if v.Sites != 3 || len(v.Checks) != 1 || !strings.Contains(v.Why, "500") {
		t.Errorf("%+v", v)
	}
	u.Reload(body + fmt.Sprintf("\"d.test\" = [\"http://%s\", \"http://%s\"]\n", vm.Addr, fresh.Addr))
	if v := vmStates(t, u)[vm.Addr]; v.Health != "unhealthy" || v.Sites != 4 {
		t.Errorf("at once after a reload: %+v", v)
	}
	become(t, u, fresh.Addr, "healthy")
	if n := len(vm.Requests()); n != 1 {
		t.Errorf("four sites and a reload: it was asked %d times, not once", n)
	}
	if seen := shares(u.Dial(), "d.test", 20, nil); seen["fresh"] != 20 {
		t.Errorf("what is known before the reload counts: %v", seen)
	}
}
