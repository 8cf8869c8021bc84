// Package setting judges the values of settings, with errors that name the setting, what is wanted and what was given.
package setting

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Error is a setting with a value that cannot be: the user's to mend.
type Error struct {
	Key  string // the YAML key, which is also the flag without its dashes
	Want string // what is allowed
	Got  string // the value, quoted if it is text; empty if it is missing
}

// Error names the key, what is wanted and what was given.
func (e *Error) Error() string {
	if e.Got == "" {
		return fmt.Sprintf("setting %q: missing, want %s", e.Key, e.Want)
	}
	return fmt.Sprintf("setting %q: want %s, got %s", e.Key, e.Want, e.Got)
}

// ParseBytes reads an amount of memory: a number with the unit B, KB, MB, GB,
// TB (powers of 1000), KiB, MiB, GiB or TiB (powers of 1024), in any case,
// with or without a space between. The result is bytes, 1 or more.
func ParseBytes(s string) (int64, error) {
	digits := strings.TrimRight(s, "BKMGTIbkmgti ")
	unit := strings.ToLower(strings.TrimSpace(s[len(digits):]))
	number, err := strconv.ParseFloat(digits, 64)
	factor, known := map[string]float64{
		"b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
		"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
	}[unit]
	bytes := number * factor
	if err != nil || !known || !(bytes >= 1 && bytes < math.MaxInt64) {
		return 0, fmt.Errorf("memory %q: want a number with a unit, such as 4GiB or 800MB", s)
	}
	return int64(bytes), nil
}

// Check returns the first of the errors as an error, or nil.
func Check(errs ...*Error) error {
	if err := First(errs...); err != nil {
		return err
	}
	return nil
}

// First returns the first of the errors, or nil.
func First(errs ...*Error) *Error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Needed refuses an empty text; want says what it has to be.
func Needed(key, value, want string) *Error {
	if value == "" {
		return &Error{Key: key, Want: want}
	}
	return nil
}

// OneOf refuses a value that is none of the names.
func OneOf(key, value string, names []string) *Error {
	if slices.Contains(names, value) {
		return nil
	}
	last := len(names) - 1
	want := strings.Join(names[:last], ", ") + " or " + names[last]
	return &Error{key, want, strconv.Quote(value)}
}

// Between refuses a value outside of lowest to highest.
func Between(key string, value, lowest, highest int) *Error {
	if lowest <= value && value <= highest {
		return nil
	}
	want := fmt.Sprintf("%d to %d", lowest, highest)
	if value < lowest {
		want = fmt.Sprintf("%d or more", lowest)
	}
	return &Error{key, want, strconv.Itoa(value)}
}

// Number refuses a value for which ok is false, and with it NaN and ±Inf.
func Number(key string, value float64, ok bool, want string) *Error {
	if ok && !math.IsInf(value, 0) {
		return nil
	}
	return &Error{key, want, strconv.FormatFloat(value, 'g', -1, 64)}
}

// Above0 refuses 0 and below.
func Above0(key string, v float64) *Error {
	return Number(key, v, v > 0, "a number above 0")
}

// AtLeast0 refuses what is below 0.
func AtLeast0(key string, v float64) *Error {
	return Number(key, v, v >= 0, "0 or a number above")
}

// Below1 refuses what is no share below 1.
func Below1(key string, v float64) *Error {
	return Number(key, v, v >= 0 && v < 1, "a fraction from 0 to below 1")
}

// Memory refuses what ParseBytes does not read; empty is allowed.
func Memory(key, value string) *Error {
	if value == "" {
		return nil
	}
	if _, err := ParseBytes(value); err != nil {
		return &Error{key, "a number with a unit, such as 4GiB or 800MB", strconv.Quote(value)}
	}
	return nil
}
