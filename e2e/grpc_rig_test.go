package e2e

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/orca"

	"usher/e2e/peer"
	"usher/e2e/rig"
)

// gRPC is an usher before one gRPC service, which it reaches in two ways.
type gRPC struct {
	u     *rig.Usher
	hosts []string
}

// grpcVM is the suite's service; a test may want to hear of some calls itself.
type grpcVM struct {
	testgrpc.TestServiceServer
	duplex func(testgrpc.TestService_FullDuplexCallServer) error
}

func (v *grpcVM) FullDuplexCall(s testgrpc.TestService_FullDuplexCallServer) error {
	if v.duplex != nil {
		return v.duplex(s)
	}
	return v.TestServiceServer.FullDuplexCall(s)
}

func newGRPC(t *testing.T, vm *grpcVM) *gRPC {
	t.Helper()
	ca, dir := peer.NewCA(t), t.TempDir()
	peer.Replace(t, dir+"/ca.pem", ca.PEM)
	plain := serveGRPC(t, vm)
	secure := serveGRPC(t, vm, grpc.Creds(credentials.NewTLS(ca.Server("secure.test"))))
	u := start(t, `[sites]
"plain.test" = "h2c://%s"
[sites."secure.test"]
to = "https://%s"
ca_file = "%s/ca.pem"
alpn = "h2"`, plain, secure, dir)
	return &gRPC{u: u, hosts: []string{"plain.test", "secure.test"}}
}

// serveGRPC starts a server and returns where it listens.
func serveGRPC(t *testing.T, vm *grpcVM, options ...grpc.ServerOption) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(append(options, orca.CallMetricsServerOption(nil))...)
	testgrpc.RegisterTestServiceServer(s, vm)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-ended; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// dial opens a channel to a site.
func (g *gRPC) dial(t *testing.T, host string, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	g.u.For(t).TLS(host).Close() // until it has its certificate
	conf := &tls.Config{ServerName: host, RootCAs: g.u.Roots()}
	c, err := grpc.NewClient("passthrough:///"+g.u.HTTPS, append(options,
		grpc.WithTransportCredentials(credentials.NewTLS(conf)), grpc.WithAuthority(host))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// service is the suite's service at a site.
func (g *gRPC) service(t *testing.T, host string) testgrpc.TestServiceClient {
	return testgrpc.NewTestServiceClient(g.dial(t, host))
}

// drainCalls reads a stream of calls to its end.
func drainCalls(s testgrpc.TestService_FullDuplexCallServer) error {
	for {
		if _, err := s.Recv(); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("receiving: %w", err)
		}
	}
}
