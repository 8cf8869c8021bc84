package llamatest

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// AdapterSpec is a LoRA adapter for the attn_q matrices of Model, [256, 256]: A [256, rank], B [rank, 256], random.
type AdapterSpec struct {
	Arch  string // "llama"
	Kind  string // general.type, "adapter"
	Embd  int    // 256
	Rank  int    // 2
	Alpha float32
}

// WriteAdapter writes the adapter as GGUF v3, by hand: this module has no GGUF writer, and needs no more than this.
func WriteAdapter(t testing.TB, s AdapterSpec) string {
	t.Helper()
	if s.Arch == "" {
		s.Arch = "llama"
	}
	if s.Kind == "" {
		s.Kind = "adapter"
	}
	if s.Embd == 0 {
		s.Embd = 256
	}
	if s.Rank == 0 {
		s.Rank = 2
	}
	const blocks, alignment = 5, 32
	var head, body bytes.Buffer
	put := func(v any) { binary.Write(&head, binary.LittleEndian, v) }
	str := func(s string) { put(uint64(len(s))); head.WriteString(s) }
	head.WriteString("GGUF")
	put(uint32(3))
	put(uint64(2 * blocks)) // tensors
	put(uint64(4))          // metadata
	for _, kv := range [][2]string{{"general.type", s.Kind}, {"general.architecture", s.Arch}, {"adapter.type", "lora"}} {
		const typeString = 8
		str(kv[0])
		put(uint32(typeString))
		str(kv[1])
	}
	const typeFloat32 = 6
	str("adapter.lora.alpha")
	put(uint32(typeFloat32))
	put(s.Alpha)

	rng := rand.New(rand.NewPCG(1, 2))
	tensor := func(name string, ne0, ne1 int) {
		str(name)
		put(uint32(2))
		put([]uint64{uint64(ne0), uint64(ne1)})
		put(uint32(0)) // F32
		put(uint64(body.Len()))
		for range ne0 * ne1 {
			binary.Write(&body, binary.LittleEndian, float32(rng.NormFloat64())*0.3)
		}
		body.Write(make([]byte, (alignment-body.Len()%alignment)%alignment))
	}
	for i := range blocks {
		name := "blk." + string(rune('0'+i)) + ".attn_q.weight"
		tensor(name+".lora_a", s.Embd, s.Rank)
		tensor(name+".lora_b", s.Rank, s.Embd)
	}
	head.Write(make([]byte, (alignment-head.Len()%alignment)%alignment))
	path := filepath.Join(t.TempDir(), "adapter.gguf")
	if err := os.WriteFile(path, append(head.Bytes(), body.Bytes()...), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}
