package relukkotest

var TestLockName = testLockName
