package ca

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

// MaxPartitions bounds into how many CRLs the certificates of one authority are
// divided.
const MaxPartitions = 4096

// partitionMark stands in a URL for the number of a certificate's partition.
const partitionMark = "{partition}"

// Partition says which of n partitions a certificate belongs to, from 0 to n-1:
// the first four octets of the SHA-256 of its serial number, big-endian, modulo n.
// The serial is its magnitude, big-endian, without leading zero octets. It is 0
// for n below 2.
func Partition(serial []byte, n int) int {
	if n < 2 {
		return 0
	}
	sum := sha256.Sum256(serial)
	return int(binary.BigEndian.Uint32(sum[:4]) % uint32(n))
}

// PartitionURL puts the number of a partition into a URL that has {partition}
// in it.
func PartitionURL(url string, partition int) string {
	return strings.ReplaceAll(url, partitionMark, strconv.Itoa(partition))
}

// CheckCRLURLs fails unless urls are URLs of the n CRLs of an authority, or of its
// only one for n below 2.
func CheckCRLURLs(urls []string, n int) error {
	if err := checkPartitions(urls, n); err != nil {
		return err
	}
	for _, s := range urls {
		if _, err := parseURL(PartitionURL(s, 0)); err != nil {
			return err
		}
	}
	return nil
}

// checkPartitions fails unless urls lead to the n CRLs of an authority, or to its
// only one for n below 2.
func checkPartitions(urls []string, n int) error {
	if n < 0 || n > MaxPartitions {
		return fmt.Errorf("%d partitions, want 0 to %d", n, MaxPartitions)
	}
	for _, s := range urls {
		switch has := strings.Contains(s, partitionMark); {
		case n > 1 && !has:
			return fmt.Errorf("%q leads to one CRL, but the issuer has %d: put %s into it", s, n, partitionMark)
		case n < 2 && has:
			return fmt.Errorf("%q has %s in it, but the issuer's crl has no partitions", s, partitionMark)
		}
	}
	return nil
}
