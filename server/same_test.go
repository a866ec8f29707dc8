package server

import (
	"reflect"
	"testing"

	"usher/config"
)

// TestSameSeesEveryField changes one value of a site after the other, however
// deep it lies: one that same forgets would be ignored by a reload. Pos is where
// a site stands, not what it asks for.
func TestSameSeesEveryField(t *testing.T) {
	empty := &config.Site{Settings: new(config.Settings)}
	if !same(empty, &config.Site{Settings: new(config.Settings)}) || !same(whole(t), whole(t)) {
		t.Fatal("a site is not the same as itself")
	}
	for _, field := range reflect.VisibleFields(reflect.TypeFor[config.Site]()) {
		name := field.Name
		if name == "Pos" || name == "Fault" || field.Anonymous {
			continue
		}
		f := func(s *config.Site) reflect.Value { return reflect.ValueOf(s).Elem().FieldByIndex(field.Index) }
		added := &config.Site{Settings: new(config.Settings)}
		fill(t, f(added))
		if same(empty, added) || same(added, empty) {
			t.Errorf("same does not see that %s is set", name)
		}
		for n := range values(f(whole(t))) {
			changed := whole(t)
			change(t, values(f(changed))[n])
			if same(whole(t), changed) {
				t.Errorf("same does not look at value %d of %s", n, name)
			}
		}
	}
}

// TestSameNeverTrustsFiles: what a site names may have changed in the meantime.
func TestSameNeverTrustsFiles(t *testing.T) {
	for _, s := range []*config.Site{
		{Settings: &config.Settings{CAFile: "x"}}, {Settings: &config.Settings{Maintenance: "x"}},
		{Settings: new(config.Settings), ErrorPages: map[int]string{503: "x"}}, {Settings: new(config.Settings), Fault: &config.Problem{}},
	} {
		if same(s, s) {
			t.Errorf("%+v", s)
		}
	}
}

// whole is a site with every field set that same compares.
func whole(t *testing.T) *config.Site {
	t.Helper()
	s := &config.Site{Settings: new(config.Settings)}
	for _, field := range reflect.VisibleFields(reflect.TypeFor[config.Site]()) {
		switch field.Name {
		case "Fault", "CAFile", "Maintenance", "ErrorPages", "Settings":
		default:
			fill(t, reflect.ValueOf(s).Elem().FieldByIndex(field.Index))
		}
	}
	return s
}

// fill sets all of a value to what is not its zero value.
func fill(t *testing.T, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(t, v.Index(0))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf(503), reflect.ValueOf("x"))
	default:
		change(t, v)
	}
}

// values are the plain values that a value is made of.
func values(v reflect.Value) (all []reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			return values(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			all = append(all, values(v.Field(i))...)
		}
	case reflect.Slice:
		for i := range v.Len() {
			all = append(all, values(v.Index(i))...)
		}
	case reflect.Map:
	default:
		return []reflect.Value{v}
	}
	return all
}

// change gives a plain value another one.
func change(t *testing.T, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Uint16:
		v.SetUint(v.Uint() + 7)
	case reflect.Int, reflect.Int64:
		v.SetInt(v.Int() + 7)
	default:
		t.Fatalf("the test does not know how to change a %s", v.Type())
	}
}
