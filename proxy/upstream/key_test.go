package upstream

import (
	"reflect"
	"testing"
	"time"

	"usher/proxy/upstream/health"
	"usher/vm"
)

// TestKeysKnowEveryField: what is the same but for one value has another key,
// down to the last field that anybody adds.
func TestKeysKnowEveryField(t *testing.T) {
	full := func() Spec {
		return Spec{
			Addresses: []Address{{Host: "192.0.2.1", VM: &vm.Machine{Name: "a"}, Health: &health.Check{}}},
			TLS:       &TLS{RootsPEM: []byte("a")}, Forbid: &Own{}, Sticky: &Sticky{Key: []byte("a")},
		}
	}
	base := full()
	want, _ := base.key(nil)
	if again, _ := base.key(make(print, 0, 1)); again != want {
		t.Fatal("a spec differs from itself")
	}
	changed := 0
	differs := func(name string, s *Spec) {
		changed++
		if got, _ := s.key(nil); got == want {
			t.Errorf("the key does not know %s", name)
		}
	}
	for _, part := range []func(*Spec) any{
		func(s *Spec) any { return s },
		func(s *Spec) any { return &s.Addresses[0] },
		func(s *Spec) any { return s.Addresses[0].Health },
		func(s *Spec) any { return s.TLS },
		func(s *Spec) any { return &s.Balance },
		func(s *Spec) any { return s.Sticky },
	} {
		for i := range reflect.TypeOf(part(&base)).Elem().NumField() {
			s := full()
			of := reflect.ValueOf(part(&s)).Elem()
			if f := of.Field(i); change(f) {
				differs(of.Type().Name()+"."+of.Type().Field(i).Name, &s)
			}
		}
	}
	if changed < 40 {
		t.Errorf("only %d fields were changed", changed)
	}
}

// change gives a field another value; false for one that has parts of its own.
func change(f reflect.Value) bool {
	switch f.Kind() {
	case reflect.Bool:
		f.SetBool(!f.Bool())
	case reflect.String:
		f.SetString(f.String() + "x")
	case reflect.Int, reflect.Int64, reflect.Int8, reflect.Int16, reflect.Int32:
		f.SetInt(f.Int() + 1)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uint:
		f.SetUint(f.Uint() + 1)
	case reflect.Slice:
		f.Set(reflect.MakeSlice(f.Type(), f.Len()+1, f.Len()+1))
	case reflect.Pointer:
		f.SetZero()
	default:
		return false
	}
	return true
}

// TestAPoolWithoutWorkIsSmall: nobody who only looks makes its backends.
func TestAPoolWithoutWorkIsSmall(t *testing.T) {
	plan := NewSet(Dialer{}).Plan()
	p, _ := plan.Pool(spec(Address{Host: "192.0.2.1", Port: 80}))
	other, _ := plan.Pool(spec(Address{Host: "192.0.2.2", Port: 80}))
	set, _ := plan.Done()
	set.Reap(time.Now())
	set.Each(func(p *Pool) { p.Own() })
	if s := p.Look()[0].State(); s.Address != "192.0.2.1:80" || s.Status != "unknown" {
		t.Errorf("state %+v", s)
	}
	if p.roster.Load() != nil || len(p.Used()) != 0 {
		t.Error("a pool without work has backends")
	}
	if p.spec != other.spec {
		t.Error("equal settings are kept twice")
	}
	b := p.Backends()[0]
	if p.Look()[0] != b || p.Used()[0] != b {
		t.Error("its backend is another one each time")
	}
}

// TestAPoolThatIsRetiredBeforeItsFirstRequest serves that, and keeps nothing.
func TestAPoolThatIsRetiredBeforeItsFirstRequest(t *testing.T) {
	v := newVM(t, "127.0.0.1:0", serve)
	p := pool(t, spec(v.address()), Dialer{})
	p.Retire()
	wantAnswer(t, p, exchange("GET", ""), "GET ")
	if s := p.Backends()[0].State(); s.Idle != 0 {
		t.Errorf("%d connections are kept", s.Idle)
	}
}

// TestADiscardedPlan leaves the present generation as it was, its pools are
// found again.
func TestADiscardedPlan(t *testing.T) {
	s := spec(Address{Host: "192.0.2.1", Port: 80})
	first := NewSet(Dialer{}).Plan()
	p, _ := first.Pool(s)
	set, _ := first.Done()
	vain := set.Plan()
	vain.Keep(p)
	lost, _ := vain.Pool(spec(Address{Host: "192.0.2.2", Port: 80}))
	vain.Done()
	vain.Discard()
	next := set.Plan()
	if again, _ := next.Pool(s); again != p || p.retired.Load() {
		t.Error("the pool of the present generation is another one")
	}
	if again, _ := next.Pool(spec(Address{Host: "192.0.2.2", Port: 80})); again == lost {
		t.Error("a pool that was retired is used again")
	}
	if _, dropped := next.Done(); len(dropped) != 0 {
		t.Errorf("dropped %v", dropped)
	}
}
