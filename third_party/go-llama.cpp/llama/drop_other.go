//go:build !linux

package llama

func sharedMappings() []span { return nil }

func dropPages([]byte, []span, bool) bool { return false }
