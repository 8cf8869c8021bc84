package data

// Window is one sequence of n_ctx tokens as the model is trained on it. All slices are n_ctx long.
type Window struct {
	Tokens  []int32   // what the model reads
	Targets []int32   // what it should predict after each token
	Pos     []int32   // position inside the document, from 0
	Doc     []int32   // number of the document in this window: attention stays inside one
	Weight  []float32 // how much each prediction counts; 0 = not trained
}
