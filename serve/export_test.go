package serve

// For the tests in package serve_test.
const (
	MostBody     = mostBody
	MostRequests = mostRequests
)

// Occupy makes the server as busy as it may be. free undoes it.
func Occupy(s *Server) (free func()) {
	for range mostRequests {
		s.requests <- struct{}{}
	}
	return func() {
		for range mostRequests {
			<-s.requests
		}
	}
}

// Admitted returns how many requests are being answered or wait.
func Admitted(s *Server) int { return len(s.requests) }

// Free reports whether nobody uses the evaluator.
func Free(s *Server) bool { return len(s.engine.slot) == 0 }
