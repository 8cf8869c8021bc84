package version

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The first version that CHANGELOG.md tells of is this one, and it is released exactly when this one is.
func TestChangelogBeginsWithThisVersion(t *testing.T) {
	text, err := os.ReadFile("../../CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	heading := regexp.MustCompile(`(?m)^## \[(\d+\.\d+\.\d+)\] - (unreleased|\d{4}-\d{2}-\d{2})\r?$`).FindStringSubmatch(string(text))
	if heading == nil {
		t.Fatal("CHANGELOG.md has no heading of the form ## [1.2.3] - DATE")
	}
	want, dev := strings.CutSuffix(Version, "-dev")
	if heading[1] != want {
		t.Errorf("CHANGELOG.md begins with version %s, the program is %s", heading[1], Version)
	}
	if unreleased := heading[2] == "unreleased"; unreleased != dev {
		t.Errorf("CHANGELOG.md says %q of version %s, the program is %s", heading[2], heading[1], Version)
	}
}
