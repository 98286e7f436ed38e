//go:build race

package plan

// raceFactor is how much longer things may take under the race detector.
const raceFactor = 15
