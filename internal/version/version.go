// Package version holds the version of the program, in one place: CHANGELOG.md says what is in it.
package version

import "runtime/debug"

// Version is that of this tree; "-dev" until it is released.
const Version = "0.3.0-dev"

// Revision returns the commit that the program was built from, empty where that is not known.
func Revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}
