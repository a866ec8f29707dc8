package server

import (
	"reflect"
	"testing"
	"time"

	"usher/config"
)

// TestSameSeesEveryField changes one field of a site after the other: a field
// that same forgets would be ignored by a reload.
func TestSameSeesEveryField(t *testing.T) {
	base := func() *config.Site { return &config.Site{Host: "a", Timeouts: &config.Timeouts{}} }
	if !same(base(), base()) {
		t.Fatal("a site is not the same as itself")
	}
	typ := reflect.TypeFor[config.Site]()
	for i := range typ.NumField() {
		name := typ.Field(i).Name
		s := base()
		f := reflect.ValueOf(s).Elem().Field(i)
		switch name {
		case "Pos":
			continue
		case "Fault":
			f.Set(reflect.ValueOf(&config.Problem{}))
		case "Timeouts":
			f.Set(reflect.ValueOf(&config.Timeouts{Hold: time.Second}))
		case "To":
			f.Set(reflect.ValueOf([]config.Backend{{Host: "b"}}))
		case "Paths":
			f.Set(reflect.ValueOf([]config.Path{{Prefix: "/x/"}}))
		default:
			switch f.Kind() {
			case reflect.String:
				f.SetString("x")
			case reflect.Bool:
				f.SetBool(true)
			case reflect.Uint16:
				f.SetUint(7)
			default:
				t.Fatalf("the test does not know how to change %s", name)
			}
		}
		if same(base(), s) {
			t.Errorf("same does not look at %s", name)
		}
	}
}
