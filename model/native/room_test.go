package native

import (
	"slices"
	"testing"

	"finetune/internal/testmodel"
	"finetune/model"
)

func TestLayersThatFit(t *testing.T) {
	t.Parallel()
	layers := []int64{10, 20, 30, 100} // the output last, and first to go
	for free, want := range map[int64]int{0: 0, 99: 0, 100: 1, 129: 1, 130: 2, 150: 3, 159: 3, 160: 4, 1000: 4} {
		if got := fitting(layers, free); got != want {
			t.Errorf("fitting(%v, %d) = %d, want %d", layers, free, got, want)
		}
	}
}

func TestLayersHoldAllButTheTable(t *testing.T) {
	t.Parallel()
	for _, tied := range []bool{false, true} {
		base, err := model.Open(testmodel.Path(t, testmodel.Spec{Layers: 3, Tied: tied}))
		if err != nil {
			t.Fatal(err)
		}
		defer base.Close()
		layers := layerBytes(base)
		table, _ := base.Tensor("token_embd.weight")
		want := base.Bytes() - table.Bytes()
		if tied {
			want = base.Bytes() // the output's copy of the table
		}
		if len(layers) != 4 || sum(layers) != want || !slices.Equal(layers[:1], layers[1:2]) {
			t.Errorf("tied %v: layers of %v bytes, want 3 alike and the output, %d in all", tied, layers, want)
		}
	}
}
