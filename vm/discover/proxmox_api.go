package discover

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
)

const proxmoxLimit = 32 << 20 // bytes of one answer

// proxmoxAPI makes requests with an API token.
type proxmoxAPI struct {
	base, token, caFile string
	insecure            bool

	mu     sync.Mutex
	client *http.Client // nil: to be made, since its CA file may have changed
}

// ready returns the client, a new one after a failure.
func (a *proxmoxAPI) ready() (*http.Client, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.client != nil {
		return a.client, nil
	}
	c := &tls.Config{InsecureSkipVerify: a.insecure, MinVersion: tls.VersionTLS12}
	if a.caFile != "" {
		pem, err := os.ReadFile(a.caFile)
		if err != nil {
			return nil, err
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("no certificate in %s", a.caFile)
		}
	}
	a.client = &http.Client{
		Transport:     &http.Transport{TLSClientConfig: c, TLSHandshakeTimeout: 5 * time.Second, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return a.client, nil
}

func (a *proxmoxAPI) get(ctx context.Context, path string) ([]byte, error) {
	return a.do(ctx, http.MethodGet, path, nil)
}

// do makes a request and returns the body of its answer, or says as Proxmox
// does what is wrong: in the status line, and in newer versions in the body.
func (a *proxmoxAPI) do(ctx context.Context, method, path string, form url.Values) ([]byte, error) {
	client, err := a.ready()
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, method, a.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "PVEAPIToken="+a.token)
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	response, err := client.Do(request)
	if err != nil {
		a.mu.Lock()
		a.client = nil
		a.mu.Unlock()
		return nil, fmt.Errorf("proxmox at %s: %w", a.base, unwrapURL(err))
	}
	defer response.Body.Close()
	body, err := readAll(response.Body, proxmoxLimit)
	switch {
	case err != nil:
		return nil, fmt.Errorf("proxmox at %s: %w", a.base, err)
	case response.StatusCode == http.StatusOK:
		return body, nil
	}
	var said struct {
		Message string
		Errors  map[string]string
	}
	_ = json.Unmarshal(body, &said) // the status line says enough without it
	detail := strings.TrimSpace(said.Message)
	for name, problem := range said.Errors {
		detail += " " + name + ": " + strings.TrimSpace(problem)
	}
	if detail != "" {
		detail = fmt.Sprintf(" (%.300q)", detail)
	}
	return nil, fmt.Errorf("proxmox at %s: %.200q%s", a.base, response.Status, detail)
}
