// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

var comm = flag.String("comm", "", "names of the server's processes (comma separated): each line then ends with their CPU time per operation")

// serverCPU is the CPU time used so far by all processes named in -comm, children waited for included.
func serverCPU() time.Duration {
	if *comm == "" {
		return 0
	}
	names, total := strings.Split(*comm, ","), 0
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, f := range stats {
		b, err := os.ReadFile(f)
		i := strings.LastIndexByte(string(b), ')')
		if err != nil || i < 0 || !slices.Contains(names, string(b[strings.IndexByte(string(b), '(')+1:i])) {
			continue
		}
		var t [4]int
		fields := strings.Fields(string(b[i+1:]))
		for k := range t {
			fmt.Sscan(fields[11+k], &t[k])
			total += t[k]
		}
	}
	return time.Duration(total) * 10 * time.Millisecond
}

func cpuPerOp(used time.Duration, ops int) string {
	if *comm == "" {
		return ""
	}
	return fmt.Sprintf("  server %.1f us/op", float64(used.Microseconds())/float64(ops))
}
