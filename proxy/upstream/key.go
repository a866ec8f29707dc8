package upstream

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// key is the hash of a Spec: equal for equal ones, and for no others.
type key [16]byte

// print is what a Spec is told apart by, each value so that it cannot run into
// the next.
type print []byte

func (p *print) number(n int64) { *p = binary.LittleEndian.AppendUint64(*p, uint64(n)) }

func (p *print) text(s string) {
	p.number(int64(len(s)))
	*p = append(*p, s...)
}

func (p *print) flag(b bool) {
	if b {
		*p = append(*p, 1)
	} else {
		*p = append(*p, 0)
	}
}

func (p *print) hash(b []byte) {
	sum := sha256.Sum256(b)
	*p = append(*p, sum[:]...)
}

// settings adds what pools of different addresses may have in common.
func (p *print) settings(s *Spec) {
	p.text(s.ProxyProtocol)
	p.number(int64(s.Connect))
	p.number(int64(s.Hold))
	p.number(int64(s.ResponseHead))
	p.number(int64(s.Balance.Method))
	p.text(s.Balance.Name)
	p.number(int64(s.SlowStart))
	p.number(int64(s.Queue))
	p.number(int64(s.QueueTimeout))
	for _, b := range [...]bool{s.UDP, s.HTTP2, s.Transparent, s.Forbid != nil, s.Adaptive, s.NoEjection, s.TLS != nil, s.Sticky != nil} {
		p.flag(b)
	}
	if t := s.TLS; t != nil {
		p.text(t.ServerName)
		p.flag(t.Insecure)
		p.hash(t.RootsPEM)
	}
	if c := s.Sticky; c != nil {
		p.text(c.Cookie)
		p.number(int64(c.TTL))
		p.hash(c.Key)
	}
}

func (p *print) address(a *Address) {
	p.text(a.Host)
	p.text(a.Unix)
	p.number(int64(a.Port))
	p.number(int64(a.Weight))
	p.number(int64(a.MaxConns))
	p.number(int64(a.VMConns))
	for _, b := range [...]bool{a.SRV, a.Backup, a.IfMany, a.VM != nil, a.Health != nil} {
		p.flag(b)
	}
	if a.VM != nil {
		p.text(a.VM.Name)
	}
	if a.Health != nil {
		p.text(fmt.Sprintf("%#v", *a.Health))
	}
}

// key also returns what the settings alone are told apart by. The buffer is
// used for both.
func (s *Spec) key(buf print) (k key, settings print) {
	buf.settings(s)
	n := len(buf)
	for i := range s.Addresses {
		buf.address(&s.Addresses[i])
	}
	sum := sha256.Sum256(buf)
	return key(sum[:len(k)]), buf[:n]
}
