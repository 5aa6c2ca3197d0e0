// SPDX-License-Identifier: Apache-2.0

// watchload puts many watches under load and checks what they are promised (store.md 5): T9 every
// event exactly once and in order with random disconnects, T10 no event at or below a progress
// revision that was told, T11 a slow reader neither lost nor felt by the others, T12 no starvation of
// watches that share a stream, T14 nothing below the start of a watch that began in the future; and that a big transaction comes whole, also when
// it is older than what the server keeps in memory.
//
//	watchload -endpoints http://127.0.0.1:2379 -test all -seconds 20
//
// Prints `ok NAME` or `not ok NAME: why` for each test; exit status 1 when one failed. With several
// endpoints writers and watchers spread over them.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"time"
)

var (
	endpoints = flag.String("endpoints", "http://127.0.0.1:2379", "comma-separated")
	tests     = flag.String("test", "all", "T9,T10,T11,T12,T14,transactions or all")
	seconds   = flag.Int("seconds", 20, "each test writes for so long")
	watchers  = flag.Int("watchers", 1000, "of T9 and T11")
	shared    = flag.Int("shared", 500, "watches on the one stream of T12")
	rate      = flag.Int("rate", 2000, "writes per second, as far as the server keeps up")
	events    = flag.Int("events", 100000, "of T10")
	seed      = flag.Int64("seed", 1, "of keys and disconnects")
	strict    = flag.Bool("strict", false, "T11 judges by a tenth, as a quiet machine can tell it")
	pid       = flag.Int("pid", 0, "of the server, whose memory T11 bounds; 0: not checked")
)

var failed bool

func report(name string, err error, detail string) {
	if err != nil {
		failed = true
		fmt.Printf("not ok %s: %v (%s)\n", name, err, detail)
		return
	}
	fmt.Printf("ok %s (%s)\n", name, detail)
}

func main() {
	flag.Parse()
	all := map[string]func(*cluster) (string, error){"T9": reliability, "T10": bookmarks, "T11": slowWatcher,
		"T12": starvation, "T14": future, "transactions": transactions}
	names := strings.Split(*tests, ",")
	if *tests == "all" {
		names = []string{"T9", "T10", "T11", "T12", "T14", "transactions"}
	}
	c, err := connect(strings.Split(*endpoints, ","))
	if err != nil {
		fmt.Fprintln(os.Stderr, "watchload:", err)
		os.Exit(2)
	}
	for _, name := range names {
		f := all[name]
		if f == nil {
			fmt.Fprintln(os.Stderr, "watchload: no test", name)
			os.Exit(2)
		}
		began := time.Now()
		detail, err := f(c)
		report(name, err, fmt.Sprintf("%s; %.1f s", detail, time.Since(began).Seconds()))
	}
	if failed {
		os.Exit(1)
	}
}
