package main

import relukko "gitlab.com/relukko/relukko-go"

// canHandOn tells whether the Mutex can hand on inside the process.
const canHandOn = false

func handoff() []relukko.Option { return nil }
