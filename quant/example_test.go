package quant_test

import (
	"fmt"
	"log"

	"finetune/gguf"
	"finetune/quant"
)

// Encode a row of 32 weights, and see what the type makes of them.
func Example() {
	weights := make([]float32, 32)
	for i := range weights {
		weights[i] = float32(i-16) / 16 // -1 to 15/16
	}
	data, err := quant.Encode(gguf.TypeQ4_0, weights, len(weights), nil)
	if err != nil {
		log.Fatal(err)
	}
	back := make([]float32, len(weights))
	if err := quant.Decode(gguf.TypeQ4_0, data, back); err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(data), "bytes:", back[0], back[3], back[31])

	for _, t := range []gguf.Type{gguf.TypeQ8_0, gguf.TypeQ4_0} {
		a, err := quant.RoundTrip(t, weights, len(weights), nil)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s: relative error %.1f %%\n", t, 100*a.Relative)
	}
	// Output:
	// 18 bytes: -1 -0.75 0.875
	// q8_0: relative error 0.4 %
	// q4_0: relative error 7.6 %
}
