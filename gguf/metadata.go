package gguf

// Get returns the value of a key, and false if the file has no such key.
func (f *File) Get(key string) (Value, bool) {
	i, ok := f.head.index[key]
	if !ok {
		return nil, false
	}
	return f.head.kvs[i].Value, true
}

// Architecture returns general.architecture, such as "llama", or the empty string
// when the file has none.
func (f *File) Architecture() string {
	arch, _ := f.String(keyArchitecture)
	return arch
}

// String returns a string. Like all getters below it answers a missing key with
// ErrNoKey and a value of another kind with ErrKind, for errors.Is.
func (f *File) String(key string) (string, error) {
	return get(f, key, "string", func(v Value) (string, bool) { s, ok := v.(string); return s, ok })
}

// Bool returns a bool.
func (f *File) Bool(key string) (bool, error) {
	return get(f, key, "bool", func(v Value) (bool, bool) { b, ok := v.(bool); return b, ok })
}

// Uint returns a whole number of any width that is not negative.
func (f *File) Uint(key string) (uint64, error) {
	return get(f, key, "a whole number from 0 on", asUint)
}

// Int returns a whole number of any width that an int64 can hold.
func (f *File) Int(key string) (int64, error) { return get(f, key, "a whole number", asInt) }

// Float returns a float32 or float64.
func (f *File) Float(key string) (float64, error) {
	return get(f, key, "a float", func(v Value) (float64, bool) {
		if x, ok := v.(float32); ok {
			return float64(x), true
		}
		x, ok := v.(float64)
		return x, ok
	})
}

// Strings returns an array of strings, which must not be changed.
func (f *File) Strings(key string) ([]string, error) { return elements[string](f, key) }

// Floats returns an array of float32, which must not be changed.
func (f *File) Floats(key string) ([]float32, error) { return elements[float32](f, key) }

// Bools returns an array of bools, which must not be changed.
func (f *File) Bools(key string) ([]bool, error) { return elements[bool](f, key) }

// Ints returns an array of whole numbers of any width, widened.
func (f *File) Ints(key string) ([]int64, error) {
	return get(f, key, "an array of whole numbers", func(v Value) ([]int64, bool) {
		a, ok := v.(Array)
		if !ok {
			return nil, false
		}
		return asInts(a)
	})
}

func elements[T element](f *File, key string) ([]T, error) {
	want := ArrayOf[T]().Kind().String()
	return get(f, key, "an array of "+want, func(v Value) ([]T, bool) {
		a, _ := v.(Array)
		s, ok := a.values.([]T)
		return s, ok
	})
}

func get[T any](f *File, key, want string, as func(Value) (T, bool)) (T, error) {
	var none T
	v, ok := f.Get(key)
	if !ok {
		return none, f.errorf("key %q: %w", key, ErrNoKey)
	}
	t, ok := as(v)
	if !ok {
		return none, f.errorf("key %q: %w: %s, want %s", key, ErrKind, kindName(v), want)
	}
	return t, nil
}

// kindName describes the kind of a value for an error.
func kindName(v Value) string {
	if a, ok := v.(Array); ok {
		return "array of " + a.Kind().String()
	}
	kind, _ := KindOf(v)
	return kind.String()
}
