//go:build !unix || solaris || aix

package atomicfile

import "os"

// renamesOpen says that a file can get another name while it is open.
const renamesOpen = false

// hold does nothing: there are no locks that end with their process, or none that a renamed file can have.
func hold(*os.File) bool { return true }

// abandoned returns nil: it cannot be told.
func abandoned(string) *os.File { return nil }
