// Package tls reads ClientHellos and keeps the certificates. The handshake
// itself is crypto/tls.
package tls
