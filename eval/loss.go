package eval

import (
	"encoding/json"
	"math"
)

// Loss is a mean cross-entropy in nats a token. NaN means not measured, in JSON null.
type Loss float64

// NotMeasured stands for a loss that nobody computed.
var NotMeasured = Loss(math.NaN())

// Measured reports whether it is a number.
func (l Loss) Measured() bool { return !math.IsNaN(float64(l)) && !math.IsInf(float64(l), 0) }

// MarshalJSON writes a number, or null for what no number can say.
func (l Loss) MarshalJSON() ([]byte, error) {
	if l.Measured() {
		return json.Marshal(float64(l))
	}
	return []byte("null"), nil
}

// Perplexity returns e to the loss.
func (l Loss) Perplexity() float64 { return math.Exp(float64(l)) }
