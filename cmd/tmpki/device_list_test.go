package main

import (
	"testing"

	"tmpki/enroll"
)

func TestNextPage(t *testing.T) {
	if got := nextPage(enroll.Device{Place: "n61.7"}, 50); got != "--after n61.7" {
		t.Error(got)
	}
	// Many intents, left by a batch that was killed: they have no places.
	if got := nextPage(enroll.Device{State: enroll.Intended}, 50); got != "--limit N shows more than 50" {
		t.Error(got)
	}
}
