package native

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"finetune/device"
	"finetune/internal/hint"
	"finetune/model"
)

// checkRoom refuses a base of which the device is to hold more layers than it has free memory for. What a context takes besides
// is not known before there is one.
func checkRoom(base *model.Base, on device.Placement) error {
	if on.OnCPU() {
		return nil
	}
	free, total := on.Device.Memory()
	if total == 0 {
		return nil
	}
	layers := layerBytes(base)
	held := heldOf(layers, on)
	if most := fitting(layers, free); most < held {
		return hint.With(fmt.Errorf("model %q: %d layers take %s on device %s (%s), which has %s free", base.Path(), held,
			gibibytes(sum(layers[len(layers)-held:])), on, on.Device.Description(), gibibytes(free)),
			fmt.Sprintf("--gpu-layers %d would fit; the others stay on the CPU", most))
	}
	return nil
}

// heldOf returns how many of the layers the device is to hold.
func heldOf(layers []int64, on device.Placement) int {
	if on.Layers == device.AllLayers {
		return len(layers)
	}
	return min(len(layers), on.Layers)
}

// fewerLayers says what to try where a device cannot hold what its free memory was enough for: half of the layers.
func fewerLayers(base *model.Base, on device.Placement) string {
	half := heldOf(layerBytes(base), on) / 2
	if half == 0 {
		return "--device cpu does without it"
	}
	return fmt.Sprintf("--gpu-layers %d takes half of it on device %s; the others stay on the CPU", half, on)
}

// layerBytes returns the bytes of each layer's weights, that of the output last. A model whose output is the table of its tokens
// has that twice: the table stays on the CPU.
func layerBytes(base *model.Base) []int64 {
	blocks := map[int]int64{} // by number, which a file may give as any
	var output, table int64
	apart := false // whether the output has a matrix of its own
	for _, t := range base.Tensors() {
		n := model.Block(t.Name)
		switch {
		case n >= 0:
			blocks[n] += t.Bytes()
		case t.Name == "token_embd.weight":
			table = t.Bytes()
		case strings.HasPrefix(t.Name, "output"):
			output += t.Bytes()
			apart = apart || t.Name == "output.weight"
		}
	}
	if !apart {
		output += table
	}
	var layers []int64
	for _, n := range slices.Sorted(maps.Keys(blocks)) {
		layers = append(layers, blocks[n])
	}
	return append(layers, output)
}

// fitting returns how many layers, from the last, take at most free bytes.
func fitting(layers []int64, free int64) int {
	for n := range layers {
		if free -= layers[len(layers)-1-n]; free < 0 {
			return n
		}
	}
	return len(layers)
}

func sum(layers []int64) (total int64) {
	for _, n := range layers {
		total += n
	}
	return total
}

func gibibytes(n int64) string { return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30)) }
