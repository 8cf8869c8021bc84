package graph

import (
	"cmp"
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"finetune/adapter"
	"finetune/internal/testmodel"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// variants are those of testmodel that have a way through the engine. The windows of their attention, if it has any, are
// shorter than the tests' sequences.
func variants() (all []testmodel.Variant) {
	for _, v := range testmodel.Variants() {
		if !v.Experts {
			v.Of.Ctx = cmp.Or(v.Of.Ctx, tinySpec("").Ctx)
			all = append(all, v)
		}
	}
	return all
}

// variantNamed writes a variant and returns its path.
func variantNamed(t *testing.T, name string) string {
	t.Helper()
	all := testmodel.Variants()
	return writeVariant(t, all[slices.IndexFunc(all, func(v testmodel.Variant) bool { return v.Name == name })])
}

func writeVariant(t *testing.T, v testmodel.Variant) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "variant.gguf")
	if err := v.Write(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestVariantsOfTinyModels(t *testing.T) {
	for _, v := range variants() {
		t.Run(v.Name, func(t *testing.T) {
			path := writeVariant(t, v)
			checkLogits(t, v.Name, path)
			for _, method := range formulas {
				checkModel(t, path, method, false, v.Unadapted...)
			}
		})
	}
}

// A router chooses experts by the data, which no rule differentiates.
func TestMixtureOfExpertsIsUnsupported(t *testing.T) {
	path := variantNamed(t, "mixtral")
	weights := allLinear(t, path, adapter.MethodLoRA, 4)
	_, err := newReady(loadModel(t, path), weights, Options{Shape: Shape{Ctx: 8, Seqs: 1}, Threads: 1})
	var unsupported *UnsupportedError
	if !errors.As(err, &unsupported) {
		t.Fatalf("newReady = %v, want an *UnsupportedError", err)
	}
	t.Log(err)
	if unsupported.Arch != "llama" || unsupported.Op != "GET_ROWS" || unsupported.Node != "ffn_moe_weights-0" {
		t.Errorf("newReady = %v, want one that names llama, GET_ROWS and ffn_moe_weights-0", err)
	}
}

// Mamba 2 has a state that another operation reads.
func TestUnknownRecurrenceIsUnsupported(t *testing.T) {
	path := writeVariant(t, testmodel.Variant{Name: "mamba2", Arch: "mamba2", Of: testmodel.Spec{Arch: "llama", Layers: 1},
		Drop: []string{"attn_q.weight", "attn_k.weight", "attn_v.weight", "attn_output.weight", "ffn_norm.weight", "ffn_gate.weight", "ffn_up.weight", "ffn_down.weight"},
		Add: map[string][]int64{"blk.*.ssm_in.weight": {64, 296}, "blk.*.ssm_conv1d.weight": {4, 160}, "blk.*.ssm_conv1d.bias": {160}, "blk.*.ssm_dt.bias": {8},
			"blk.*.ssm_a": {1, 8}, "blk.*.ssm_d": {1, 8}, "blk.*.ssm_norm.weight": {128, 1}, "blk.*.ssm_out.weight": {128, 64}},
		Keys: map[string]any{"mamba2.ssm.conv_kernel": uint32(4), "mamba2.ssm.inner_size": uint32(128), "mamba2.ssm.state_size": uint32(16),
			"mamba2.ssm.time_step_rank": uint32(8), "mamba2.ssm.group_count": uint32(1)}})
	_, err := newReady(loadModel(t, path), allLinear(t, path, adapter.MethodLoRA, 4), Options{Shape: Shape{Ctx: 8, Seqs: 1}, Threads: 1})
	var unsupported *UnsupportedError
	if !errors.As(err, &unsupported) || unsupported.Op != "SSM_SCAN" {
		t.Errorf("newReady = %v, want an *UnsupportedError that names SSM_SCAN", err)
	}
	t.Log(err)
}

func TestOperationWithoutRuleIsUnsupported(t *testing.T) {
	ctx, err := ggml.NewContext(16, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer ctx.Close()
	r := newRewriter("test", Shape{Ctx: 4, Seqs: 1}, ctx, opSets{}, trainedSet{})
	x := ctx.NewTensor(ggml.F32, 4)
	r.needs[x] = true
	y := r.add(ctx.Log(x).SetName("logarithm"))
	s := &sweep{rewriter: r, grads: map[ggml.Tensor]ggml.Tensor{y: ctx.NewTensor(ggml.F32, 4)}}
	want := UnsupportedError{Arch: "test", Op: "LOG", Node: "logarithm", Why: "the operation has no derivative rule"}
	var got *UnsupportedError
	if err := s.backward(); !errors.As(err, &got) || *got != want {
		t.Errorf("backward() = %v, want %v", err, &want)
	}
}
