package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// parseDays reads "90d": days, as validities in pki.yaml have them.
func parseDays(s string) (time.Duration, error) {
	number, ok := strings.CutSuffix(s, "d")
	days, err := strconv.Atoi(number)
	if !ok || err != nil || days < 0 || days > 36500 || strings.HasPrefix(number, "+") {
		return 0, fmt.Errorf("%q is no number of days, such as 90d", s)
	}
	return time.Duration(days) * 24 * time.Hour, nil
}
