//go:build !linux

package main

import "errors"

// processors returns none: only on Linux processes are pinned.
func processors() []int { return nil }

func pin([]int, ...int) error { return errors.ErrUnsupported }
