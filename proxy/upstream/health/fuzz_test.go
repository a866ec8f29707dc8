package health

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func FuzzHealthStatus(f *testing.F) {
	for _, s := range []string{frame(), frame(8, 1), frame(0x12, 2, 'h', 'i', 8, 0x81, 0), frame(0x1d, 1, 2, 3, 4), frame(0x21), "\x01\x00\x00\x00\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		status, ok := healthStatus(b)
		if !ok {
			if status != 0 || judgeServing(b) == nil {
				t.Errorf("status %d", status)
			}
			return
		}
		// What is read is what is there once more behind it.
		again := append(bytes.Clone(b[grpcFrameHead:]), binary.AppendUvarint([]byte{8}, status)...)
		if got, ok := healthStatus([]byte(frame(again...))); !ok || got != status {
			t.Errorf("%d, then %d", status, got)
		}
		if (judgeServing(b) == nil) != (status == 1) {
			t.Errorf("status %d judged %v", status, judgeServing(b))
		}
	})
}

func FuzzStatus(f *testing.F) {
	for _, s := range []string{"200", "200-399", "200, 204,300-399", "", "-", "399-200", "+20", "99", "600", "200-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseStatus(text)
		if (err == nil) != (len(list) > 0) || len(list) > strings.Count(text, ",")+1 {
			t.Fatalf("%v, %v", list, err)
		}
		for _, r := range list {
			if r.first < 100 || r.last > 599 || r.first > r.last || !wanted(list, r.first) || !wanted(list, r.last) {
				t.Errorf("%+v", r)
			}
		}
	})
}

func FuzzHolds(f *testing.F) {
	f.Add("hello", "ell")
	f.Add("", "x")
	f.Fuzz(func(t *testing.T, body, text string) {
		if text == "" {
			return
		}
		for _, r := range []io.Reader{strings.NewReader(body), iotest.OneByteReader(strings.NewReader(body)), iotest.DataErrReader(strings.NewReader(body))} {
			found, err := holds(r, text)
			if want := strings.Contains(body[:min(len(body), maxBody)], text); found != want || err != nil {
				t.Errorf("%v, want %v, %v", found, want, err)
			}
		}
	})
}

func FuzzClean(f *testing.F) {
	f.Add("a\x1b[0m\xff")
	f.Fuzz(func(t *testing.T, s string) {
		if c := clean(s); len(c) > maxReason+3 || strings.ContainsAny(c, "\x1b\n\r\x00") || clean(c) != c && len(c) < maxReason {
			t.Errorf("%q", c)
		}
	})
}
