package e2e

import (
	"context"
	"fmt"
	"io"
	"os"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/grpclog"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

// interopCase is one case of gRPC's interoperability suite.
type interopCase struct {
	name string
	do   func(context.Context, *grpc.ClientConn)
}

// interopCases is the standard list without the cases that need an account at
// a cloud, and with load reports and compression.
func interopCases() []interopCase {
	zipped := grpc.UseCompressor(gzip.Name)
	return []interopCase{
		{"empty_unary", onService(interop.DoEmptyUnaryCall)},
		{"large_unary", onService(interop.DoLargeUnaryCall)},
		{"compressed_unary", onService(interop.DoLargeUnaryCall, zipped)},
		{"client_streaming", onService(interop.DoClientStreaming)},
		{"server_streaming", onService(interop.DoServerStreaming)},
		{"ping_pong", onService(interop.DoPingPong)},
		{"empty_stream", onService(interop.DoEmptyStream)},
		{"timeout_on_sleeping_server", onService(interop.DoTimeoutOnSleepingServer)},
		{"cancel_after_begin", onService(interop.DoCancelAfterBegin)},
		{"cancel_after_first_response", onService(interop.DoCancelAfterFirstResponse)},
		{"custom_metadata", onService(interop.DoCustomMetadata)},
		{"status_code_and_message", onService(interop.DoStatusCodeAndMessage)},
		{"special_status_message", onService(interop.DoSpecialStatusMessage)},
		{"unimplemented_method", interop.DoUnimplementedMethod},
		{"unimplemented_service", func(ctx context.Context, c *grpc.ClientConn) {
			interop.DoUnimplementedService(ctx, testgrpc.NewUnimplementedServiceClient(c))
		}},
		{"orca_per_rpc", func(ctx context.Context, c *grpc.ClientConn) {
			interop.DoORCAPerRPCTest(ctx, testgrpc.NewTestServiceClient(c))
		}},
	}
}

// onService makes a case of a function on the test service.
func onService(f func(context.Context, testgrpc.TestServiceClient, ...grpc.CallOption), options ...grpc.CallOption) func(context.Context, *grpc.ClientConn) {
	return func(ctx context.Context, c *grpc.ClientConn) { f(ctx, testgrpc.NewTestServiceClient(c), options...) }
}

// TestGRPCInterop: all cases, through TLS, to a VM without and one with TLS.
func TestGRPCInterop(t *testing.T) {
	t.Parallel()
	g := newGRPC(t, &grpcVM{TestServiceServer: interop.NewTestServer()})
	for _, host := range g.hosts {
		t.Run(host, func(t *testing.T) {
			passed := 0
			conn := g.dial(t, host, grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"test_backend_metrics_load_balancer":{}}]}`))
			for _, c := range interopCases() {
				if fault := attempt(func() { c.do(t.Context(), conn) }); fault != nil {
					t.Errorf("%s: %v", c.name, fault)
					continue
				}
				passed++
			}
			if passed != 16 {
				t.Errorf("%d of 16", passed)
			}
		})
	}
}

// fatal is what the suite says when a case fails.
type fatal string

// attempt runs one case; the suite ends the process when one fails, unless its
// logger does something else.
func attempt(f func()) (fault error) {
	defer func() {
		if p := recover(); p != nil {
			fault = fmt.Errorf("%v", p)
		}
	}()
	f()
	return nil
}

// panicking is a logger that lets attempt catch what is fatal.
type panicking struct{ grpclog.LoggerV2 }

func (panicking) Fatalln(args ...any) { panic(fatal(fmt.Sprintln(args...))) }

// fatalAsPanic is called before anything speaks gRPC.
func fatalAsPanic() {
	grpclog.SetLoggerV2(panicking{grpclog.NewLoggerV2(io.Discard, io.Discard, os.Stderr)})
}
