package e2e

import (
	"context"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	grpcstatus "google.golang.org/grpc/status"
)

// TestGRPCEmptyCalls: calls without a message, and answers that are nothing
// but trailers, many at once on one connection either side. What ends a stream
// is part of gRPC's framing: a server hears the end of a request only in DATA,
// a client takes a status only with the end of the stream.
func TestGRPCEmptyCalls(t *testing.T) {
	t.Parallel()
	g := newGRPC(t, &grpcVM{TestServiceServer: interop.NewTestServer()})
	for _, host := range g.hosts {
		t.Run(host, func(t *testing.T) {
			service := g.service(t, host)
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					for n := range 100 {
						if err := emptyCall(t.Context(), service, n); err != nil {
							t.Errorf("call %d: %v", n, err)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

// emptyCall is a stream that the client ends at once, or a call that the
// server refuses.
func emptyCall(ctx context.Context, service testgrpc.TestServiceClient, n int) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if n%2 == 0 {
		_, err := service.UnimplementedCall(ctx, &testgrpc.Empty{})
		if grpcstatus.Code(err) != codes.Unimplemented {
			return fmt.Errorf("a refusal: %w", err)
		}
		return nil
	}
	s, err := service.FullDuplexCall(ctx)
	if err != nil {
		return err
	}
	s.CloseSend()
	if _, err := s.Recv(); err != io.EOF {
		return fmt.Errorf("an empty stream: %w", err)
	}
	return nil
}
