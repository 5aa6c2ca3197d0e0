// SPDX-License-Identifier: Apache-2.0

// diff plays one seeded random stream of etcd calls on two endpoints, a reference etcd and another
// server, and compares every answer: messages field by field after an order-preserving renumbering
// of revisions, errors by code and text, watches by their events.
//
//	diff -a http://127.0.0.1:2379 -b http://127.0.0.1:3379 -n 20000 -seed 1
//
// Both must be empty. Prints each difference with the call that showed it, then one line of totals;
// exit status 1 when there was one that is not in allowed.go.
package main

import (
	"flag"
	"fmt"
	"math/rand"
	"os"
	"time"
)

var (
	urlA    = flag.String("a", "http://127.0.0.1:2379", "the reference")
	urlB    = flag.String("b", "http://127.0.0.1:3379", "the server under test")
	n       = flag.Int("n", 20000, "calls")
	seed    = flag.Int64("seed", 1, "of the stream")
	maxDiff = flag.Int("max", 20, "differences after which to stop")
	hashKV  = flag.Int("hashes", 0, "instead: so many writes of one key each, with HashKV compared")
	verbose = flag.Bool("v", false, "print each call")
)

func main() {
	flag.Parse()
	d := &diff{rng: rand.New(rand.NewSource(*seed)), counts: map[string]int{}, excused: map[string]int{},
		leases: map[int64]int64{}, watches: map[int64]*watch{}}
	var err error
	if d.a, err = dial("a", *urlA); err == nil {
		d.b, err = dial("b", *urlB)
	}
	if err == nil {
		err = d.begin()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "diff:", err)
		os.Exit(2)
	}
	start := time.Now()
	if *hashKV > 0 {
		d.hashes(*hashKV)
		*n = d.calls
	}
	for ; d.calls < *n && d.bad < *maxDiff; d.calls++ {
		d.step()
	}
	if *hashKV == 0 {
		d.barrier()
	}
	fmt.Printf("diff: seed %d: %d calls, %d revisions, %d watches, %d events compared, %d differences, %d excused, %.1f s\n",
		*seed, d.calls, len(d.a.revs), d.opened, d.events, d.bad, sum(d.excused), time.Since(start).Seconds())
	for _, what := range sorted(d.counts) {
		fmt.Printf("  %-16s %6d\n", what, d.counts[what])
	}
	for _, what := range sorted(d.excused) {
		fmt.Printf("  excused %6d: %s\n", d.excused[what], what)
	}
	if d.bad > 0 {
		os.Exit(1)
	}
}
