//go:build !unix

package settings

import (
	"io/fs"
	"os"
)

// systemFile has the settings of all users of the machine: there is none on Windows.
var systemFile = ""

func openNoFollow(path string) (*os.File, error) { return os.Open(path) }

// notPrivate checks no owner: what is in a user's profile is for this user alone by the access
// control list that it inherits.
func notPrivate(info fs.FileInfo) string {
	if !info.Mode().IsRegular() {
		return "it is no regular file"
	}
	return ""
}
