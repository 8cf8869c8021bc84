// Package archtest holds no code but tests: they keep the import order and the
// manners of the packages, see docs/architecture.md.
package archtest
