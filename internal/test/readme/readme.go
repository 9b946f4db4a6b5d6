// Package readme has no code: its test runs the commands of README.md as they stand there.
package readme
