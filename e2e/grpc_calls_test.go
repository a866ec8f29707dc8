package e2e

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/keepalive"
	grpcstatus "google.golang.org/grpc/status"

	"usher/e2e/peer"
)

// TestGRPCCancelled: a call that the client gives up ends at the VM within a
// second, and a VM's error in the middle of a stream is the client's status.
func TestGRPCCancelled(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 4)
	vm := &grpcVM{TestServiceServer: interop.NewTestServer(), duplex: func(s testgrpc.TestService_FullDuplexCallServer) error {
		q, err := s.Recv()
		if err != nil {
			return err
		}
		if err := s.Send(&testgrpc.StreamingOutputCallResponse{}); err != nil {
			return err
		}
		if len(q.ResponseParameters) > 0 {
			return grpcstatus.Error(codes.DataLoss, "half of it\nis lost")
		}
		err = drainCalls(s)
		ended <- err
		return err
	}}
	g := newGRPC(t, vm)
	for _, host := range g.hosts {
		t.Run(host, func(t *testing.T) {
			service := g.service(t, host)
			ctx, cancel := context.WithCancel(t.Context())
			s := duplex(ctx, t, service, &testgrpc.StreamingOutputCallRequest{})
			cancel()
			if _, err := s.Recv(); grpcstatus.Code(err) != codes.Canceled {
				t.Errorf("the client heard %v", err)
			}
			select {
			case err := <-ended:
				if err == nil {
					t.Error("the VM took the end of a cancelled call for its end")
				}
			case <-time.After(time.Second):
				t.Error("the VM heard nothing for a second")
			}
			s = duplex(t.Context(), t, service, &testgrpc.StreamingOutputCallRequest{ResponseParameters: []*testgrpc.ResponseParameters{{Size: 1}}})
			if _, err := s.Recv(); grpcstatus.Code(err) != codes.DataLoss || grpcstatus.Convert(err).Message() != "half of it\nis lost" {
				t.Errorf("the client heard %v", err)
			}
		})
	}
}

// duplex opens a stream, sends the first message and reads the first answer.
func duplex(ctx context.Context, t *testing.T, service testgrpc.TestServiceClient, q *testgrpc.StreamingOutputCallRequest) testgrpc.TestService_FullDuplexCallClient {
	t.Helper()
	s, err := service.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(q); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestGRPCWithoutVM: a VM that is down is UNAVAILABLE, which clients try
// again.
func TestGRPCWithoutVM(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Silent)
	vm.Down()
	u := start(t, `[timeouts]
hold = "200ms"
[sites]
"plain.test" = "h2c://%s"`, vm.Addr)
	g := &gRPC{u: u}
	_, err := g.service(t, "plain.test").EmptyCall(t.Context(), &testgrpc.Empty{})
	if grpcstatus.Code(err) != codes.Unavailable {
		t.Errorf("%v", err)
	}
}

// TestGRPCManyCalls: unary calls and open streams beside each other, to a VM
// that ends its connections all the time and says so. None fails.
func TestGRPCManyCalls(t *testing.T) {
	t.Parallel()
	aged := keepalive.ServerParameters{MaxConnectionAge: 100 * time.Millisecond, MaxConnectionAgeGrace: time.Minute}
	addr := serveGRPC(t, &grpcVM{TestServiceServer: interop.NewTestServer()}, grpc.KeepaliveParams(aged), grpc.MaxConcurrentStreams(20))
	g := &gRPC{u: start(t, `[sites]
"plain.test" = "h2c://%s"`, addr)}
	service := g.service(t, "plain.test")
	var wg sync.WaitGroup
	var failed atomic.Int32
	begin := time.Now()
	for range 30 {
		wg.Go(func() {
			for n := 0; n < 50 || time.Since(begin) < time.Second; n++ {
				if err := smallCall(t.Context(), service, n); err != nil && failed.Add(1) < 5 {
					t.Errorf("call %d: %v", n, err)
				}
			}
		})
	}
	wg.Wait()
	if n := failed.Load(); n > 0 {
		t.Errorf("%d calls failed", n)
		for _, l := range g.u.Lines(t) {
			if l.Text("type") == "exchange" && l.Number("status") != 200 {
				t.Log(l)
			}
		}
	}
}

// smallCall is a unary call or a stream of two messages.
func smallCall(ctx context.Context, service testgrpc.TestServiceClient, n int) error {
	if n%2 == 0 {
		_, err := service.UnaryCall(ctx, &testgrpc.SimpleRequest{ResponseSize: 10})
		return err
	}
	s, err := service.FullDuplexCall(ctx)
	if err != nil {
		return err
	}
	for range 2 {
		if err := s.Send(&testgrpc.StreamingOutputCallRequest{ResponseParameters: []*testgrpc.ResponseParameters{{Size: 10}}}); err != nil {
			return fmt.Errorf("sending: %w", err)
		}
		if _, err := s.Recv(); err != nil {
			return err
		}
	}
	s.CloseSend()
	if _, err := s.Recv(); err != io.EOF {
		return fmt.Errorf("at the end: %w", err)
	}
	return nil
}
