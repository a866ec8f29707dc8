package health

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// The parts of the gRPC health protocol (grpc.health.v1.Health/Check) and of
// gRPC over HTTP/2 that a check needs.
const (
	grpcPath        = "/grpc.health.v1.Health/Check"
	grpcFrameHead   = 5 // a flag for compression and four bytes of length
	grpcServing     = 1
	fieldService    = 1<<3 | 2 // HealthCheckRequest.service: field 1, bytes
	fieldStatus     = 1        // HealthCheckResponse.status
	wireVarint      = 0
	wireFixed64     = 1
	wireBytes       = 2
	wireFixed32     = 5
	grpcOK          = "0"
	grpcNotFound    = "5"
	grpcNoSuchThing = "12" // UNIMPLEMENTED
)

func grpcRequest(c Check) (*http.Request, error) {
	c.Method, c.Path = http.MethodPost, grpcPath
	r, err := request(c)
	if err != nil {
		return nil, err
	}
	message := healthRequest(c.Service)
	r.ContentLength = int64(len(message))
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(message)), nil }
	r.Header.Set("Content-Type", "application/grpc")
	r.Header.Set("Te", "trailers")
	r.Header.Set("Grpc-Timeout", fmt.Sprintf("%dm", max(c.Timeout.Milliseconds(), 1)))
	return r, nil
}

// healthRequest is the framed HealthCheckRequest of a service.
func healthRequest(service string) []byte {
	var message []byte
	if service != "" {
		message = append(message, fieldService)
		message = binary.AppendUvarint(message, uint64(len(service)))
		message = append(message, service...)
	}
	frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	return append(frame, message...)
}

// judgeGRPC passes SERVING and nothing else.
func judgeGRPC(r *http.Response, service string) error {
	if r.StatusCode != http.StatusOK {
		return failure(fmt.Sprintf("HTTP status %d", r.StatusCode))
	}
	if kind := r.Header.Get("Content-Type"); !strings.HasPrefix(kind, "application/grpc") {
		return failure(fmt.Sprintf("the answer is %q", kind))
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		return err
	}
	status, why := r.Trailer.Get("Grpc-Status"), r.Trailer.Get("Grpc-Message")
	if status == "" { // an answer of trailers only
		status, why = r.Header.Get("Grpc-Status"), r.Header.Get("Grpc-Message")
	}
	switch status {
	case grpcOK:
		return judgeServing(body)
	case grpcNoSuchThing:
		return failure("the VM has no health service (UNIMPLEMENTED)")
	case grpcNotFound:
		return failure(fmt.Sprintf("the VM knows no service %q (NOT_FOUND)", service))
	case "":
		return failure("the answer has no grpc-status")
	}
	return failure(strings.TrimSpace(fmt.Sprintf("status %s %s", status, why)))
}

func judgeServing(frame []byte) error {
	status, ok := healthStatus(frame)
	switch {
	case !ok:
		return failure("the answer is no HealthCheckResponse")
	case status == grpcServing:
		return nil
	case status < 4:
		return failure([...]string{"UNKNOWN", "", "NOT_SERVING", "SERVICE_UNKNOWN"}[status])
	}
	return failure(fmt.Sprintf("serving status %d", status))
}

// healthStatus is the status in a framed, uncompressed HealthCheckResponse;
// fields of others are skipped, and the last of several counts, as in every
// protocol buffer.
func healthStatus(frame []byte) (status uint64, ok bool) {
	if len(frame) < grpcFrameHead || frame[0] != 0 || binary.BigEndian.Uint32(frame[1:]) != uint32(len(frame)-grpcFrameHead) {
		return 0, false
	}
	message := frame[grpcFrameHead:]
	for len(message) > 0 {
		tag, n := binary.Uvarint(message)
		if n <= 0 || tag>>3 == 0 {
			return 0, false
		}
		message = message[n:]
		value, size := fieldSize(message, tag&7)
		if size < 0 || size > len(message) {
			return 0, false
		}
		if tag == fieldStatus<<3|wireVarint {
			status = value
		}
		message = message[size:]
	}
	return status, true
}

// fieldSize is how long the value of a field of a wire type is, and a varint's
// value; -1 for what is no field.
func fieldSize(b []byte, wire uint64) (value uint64, size int) {
	switch wire {
	case wireFixed64:
		return 0, 8
	case wireFixed32:
		return 0, 4
	case wireVarint:
		if value, size = binary.Uvarint(b); size <= 0 {
			return 0, -1
		}
		return value, size
	case wireBytes:
		length, n := binary.Uvarint(b)
		if n <= 0 || length > uint64(len(b)) {
			return 0, -1
		}
		return 0, n + int(length)
	}
	return 0, -1
}
