// Package dsl has the names that Ginkgo and Gomega export, to be imported with a dot beside this module's root package, as
// tests written for go-skynet/go-llama.cpp do: a name of ours that is one of theirs does not compile. What such tests use
// most works, on top of testing; the other names (names.go) only stand there.
package dsl

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// suite is the test that runs.
var suite struct {
	declared []func()
	t        *testing.T
}

// Describe declares what a suite consists of. In variable declarations it waits for RunSpecs, inside it becomes a subtest.
func Describe(text string, args ...any) bool {
	run := func() { subtest(text, args) }
	if suite.t == nil {
		suite.declared = append(suite.declared, run)
	} else {
		run()
	}
	return true
}

// Context and When are Describe.
func Context(text string, args ...any) bool { return Describe(text, args...) }
func When(text string, args ...any) bool    { return Describe(text, args...) }

// It describes one test.
func It(text string, args ...any) bool { return Describe(text, args...) }

// subtest runs the function among args.
func subtest(text string, args []any) {
	outer := suite.t
	outer.Run(text, func(t *testing.T) {
		suite.t = t
		defer func() { suite.t = outer }()
		for _, arg := range args {
			if body, ok := arg.(func()); ok {
				body()
			}
		}
	})
}

// RunSpecs runs what was declared.
func RunSpecs(t *testing.T, description string, _ ...any) bool {
	suite.t = t
	defer func() { suite.t = nil }()
	for _, run := range suite.declared {
		run()
	}
	return !t.Failed()
}

// By says what a test does next.
func By(text string, callback ...func()) {
	suite.t.Log(text)
	for _, f := range callback {
		f()
	}
}

// Label marks tests; here it does nothing.
func Label(labels ...string) []string { return labels }

// GinkgoT returns the running test.
func GinkgoT() testing.TB { return suite.t }

// Skip ends the running test as one that is not for here, Fail as failed.
func Skip(message string, _ ...int) { suite.t.Skip(message) }
func Fail(message string, _ ...int) { suite.t.Helper(); suite.t.Fatal(message) }

// RegisterFailHandler tells what to do on a failure; here it is always Fail.
func RegisterFailHandler(func(message string, _ ...int)) {}

// Assertion is a value under test.
type Assertion struct{ actual any }

// OmegaMatcher says what a value should be.
type OmegaMatcher struct {
	wanted  string
	matches func(actual any) bool
}

// Expect starts an assertion.
func Expect(actual any, _ ...any) Assertion { return Assertion{actual} }

// To fails the test unless the value matches, ToNot if it does.
func (a Assertion) To(m OmegaMatcher, explain ...any) { suite.t.Helper(); a.check(m, true, explain) }
func (a Assertion) ToNot(m OmegaMatcher, explain ...any) {
	suite.t.Helper()
	a.check(m, false, explain)
}

func (a Assertion) check(m OmegaMatcher, want bool, explain []any) {
	suite.t.Helper()
	if got := m.matches(a.actual); got != want {
		Fail(fmt.Sprintf("%#v %s = %v, want %v %v", a.actual, m.wanted, got, want, explain))
	}
}

// BeNil matches nil, of any type, HaveOccurred an error.
func BeNil() OmegaMatcher { return OmegaMatcher{"is nil", isNil} }
func HaveOccurred() OmegaMatcher {
	return OmegaMatcher{"is an error", func(x any) bool { return !isNil(x) }}
}

// Equal matches an equal value of the same type.
func Equal(want any) OmegaMatcher {
	return OmegaMatcher{fmt.Sprintf("is %#v", want), func(x any) bool { return reflect.DeepEqual(x, want) }}
}

// ContainSubstring matches a string with part in it.
func ContainSubstring(part string) OmegaMatcher {
	return OmegaMatcher{fmt.Sprintf("contains %q", part), func(x any) bool { return strings.Contains(x.(string), part) }}
}

func isNil(x any) bool {
	if x == nil {
		return true
	}
	v := reflect.ValueOf(x)
	return v.Kind() == reflect.Pointer && v.IsNil()
}
