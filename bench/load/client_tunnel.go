package load

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"

	"usher/bench/backend"
)

// tunnels opens a tunnel for each unit and waits for its end.
type tunnels struct {
	plan  Plan
	hello []byte
}

func (t *tunnels) Do() error {
	conn, err := dial(t.plan.Addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(timeout))
	if _, err := conn.Write(t.hello); err != nil {
		return err
	}
	var answer [64]byte
	n, err := io.ReadFull(conn, answer[:])
	if err != io.ErrUnexpectedEOF || string(answer[:n]) != backend.Tiny {
		return fmt.Errorf("the tunnel answered %.40q and ended with %v", answer[:n], err)
	}
	return nil
}

// ask is a tunnel that stays open and fetches Size bytes for each unit.
type ask struct {
	conn *net.TCPConn
	size int64
}

func dialAsk(p Plan, s *shared) (client, error) {
	conn, err := dial(p.Addr)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(s.hello); err != nil {
		return nil, err
	}
	a := &ask{conn.(*net.TCPConn), p.Size}
	if p.Rate == 0 && p.Count == 0 && !p.Idle {
		a.size = Endless
	}
	return a, nil
}

func (a *ask) Do() error {
	var number [8]byte
	binary.BigEndian.PutUint64(number[:], uint64(a.size))
	if _, err := a.conn.Write(number[:]); err != nil {
		return err
	}
	return discard(a.conn, a.size)
}
