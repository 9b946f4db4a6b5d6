// Package overlap has tests that mostly wait run beside each other.
package overlap

import "flag"

// Tests sets how many tests with t.Parallel run at a time, unless the flag -parallel says it. By
// default it is the number of processors, which is too few for tests that wait for disks, other
// processes, or for time to pass. Call it in TestMain.
func Tests(n string) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		flag.Set("test.parallel", n)
	}
}
