// Package readme has no code: its tests run the commands of README.md and docs/operations.md as
// they stand there.
package readme
