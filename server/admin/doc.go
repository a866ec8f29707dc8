// Package admin is how a running usher is asked and told things: JSON over HTTP
// on a unix socket or a loopback address, its types, its server side and its
// client.
//
//	GET  /v1/status          Status
//	GET  /v1/sites           []Site
//	GET  /v1/vms             []VM
//	GET  /v1/certs           Certs
//	POST /v1/reload?force=1  ReloadResult
//	GET  /metrics, /healthz
//
// A fault is {"error": "…"} with a status of 400 or above.
package admin
