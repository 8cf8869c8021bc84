package eval

// For the tests in package eval_test.
const MaxSequences = maxSequences

// LimitExact sets the most bytes of an exact form that Attach makes.
func LimitExact(e *Evaluator, bytes int64) { e.exact = bytes }
