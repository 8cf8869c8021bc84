package data

import (
	"bufio"
	"bytes"
	"reflect"
	"testing"
)

// Whatever a record adds to the counts is in the log, and of each by itself: a field that is left out would be lost in silence.
func TestLogHoldsAllOfATally(t *testing.T) {
	of := reflect.TypeFor[tally]()
	for i := range of.NumField() {
		var entry, got logEntry
		switch f := fieldOf(&entry.tally, i).(type) {
		case *bool:
			*f = true
		case *int:
			*f = 300
		case *string:
			*f = "line 3: the thought"
		default:
			t.Fatalf("%s has a type that the log does not know", of.Field(i).Name)
		}
		entry.lengths, entry.targets = []int{7, 1000}, 12
		if err := got.decode(bufio.NewReader(bytes.NewReader(entry.encode(nil)))); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, entry) {
			t.Errorf("%s: %+v comes back as %+v", of.Field(i).Name, entry, got)
		}
	}
}

// fieldOf returns a pointer to a field, which reflect alone may not set.
func fieldOf(t *tally, i int) any {
	f := reflect.ValueOf(t).Elem().Field(i)
	return reflect.NewAt(f.Type(), f.Addr().UnsafePointer()).Interface()
}
