// SPDX-License-Identifier: Apache-2.0

// nodes writes to an etcd v3 endpoint what the kubelets of that many nodes write through an API
// server: each renews its Lease every 10 s and its status every 5 min, while watchers follow both.
//
//	nodes -endpoint http://127.0.0.1:2379 -nodes 1000 -seconds 30
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand"
	"os"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

var (
	endpoint = flag.String("endpoint", "http://127.0.0.1:2379", "etcd v3 endpoint")
	nodes    = flag.Int("nodes", 1000, "nodes")
	seconds  = flag.Int("seconds", 30, "how long")
	watchers = flag.Int("watchers", 10, "watchers of all leases and statuses")
	comm     = flag.String("comm", "", "names of the server's processes (comma separated)")
)

// CPU time in clock ticks of 10 ms of all processes of these names.
func serverTicks() (total int) {
	entries, _ := os.ReadDir("/proc")
	names := strings.Split(*comm, ",")
	for _, e := range entries {
		b, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		i := strings.LastIndexByte(string(b), ')')
		if err != nil || i < 0 || !slices.Contains(names, string(b[strings.IndexByte(string(b), '(')+1:i])) {
			continue
		}
		for k, f := range strings.Fields(string(b[i+1:])) {
			var t int
			if k == 11 || k == 12 {
				fmt.Sscan(f, &t)
				total += t
			}
		}
	}
	return
}

type object struct {
	key string
	rev int64
}

func main() {
	flag.Parse()
	var clients [8]*clientv3.Client
	for i := range clients {
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{*endpoint}, DialTimeout: 10 * time.Second})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		clients[i] = c
	}
	ctx := context.Background()
	lease, status := strings.Repeat("l", 450), strings.Repeat("s", 8000)
	var failed, writes, events atomic.Int64
	var mu sync.Mutex
	var latency []time.Duration
	write := func(c *clientv3.Client, o *object, value string) {
		began := time.Now()
		resp, err := c.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(o.key), "=", o.rev)).
			Then(clientv3.OpPut(o.key, value)).Else(clientv3.OpGet(o.key)).Commit()
		if err != nil || !resp.Succeeded {
			failed.Add(1)
			return
		}
		o.rev = resp.Header.Revision
		writes.Add(1)
		took := time.Since(began)
		mu.Lock()
		latency = append(latency, took)
		mu.Unlock()
	}
	leases, statuses := make([]object, *nodes), make([]object, *nodes)
	var made sync.WaitGroup
	next := make(chan int)
	for w := 0; w < 32; w++ {
		made.Add(1)
		go func() {
			defer made.Done()
			for i := range next {
				leases[i].key = fmt.Sprintf("/registry/leases/kube-node-lease/node-%05d", i)
				statuses[i].key = fmt.Sprintf("/registry/minions/node-%05d", i)
				write(clients[i%8], &leases[i], lease)
				write(clients[i%8], &statuses[i], status)
			}
		}()
	}
	for i := 0; i < *nodes; i++ {
		next <- i
	}
	close(next)
	made.Wait()
	for w := 0; w < *watchers; w++ {
		for _, prefix := range []string{"/registry/leases/", "/registry/minions/"} {
			go func() {
				for resp := range clients[w%8].Watch(ctx, prefix, clientv3.WithPrefix()) {
					events.Add(int64(len(resp.Events)))
				}
			}()
		}
	}
	if failed.Load() > 0 {
		fmt.Fprintln(os.Stderr, "not made:", failed.Load())
		os.Exit(1)
	}
	writes.Store(0)
	latency = nil
	ticks, began := serverTicks(), time.Now()
	until := began.Add(time.Duration(*seconds) * time.Second)
	var done sync.WaitGroup
	for i := 0; i < *nodes; i++ {
		done.Add(1)
		go func() {
			defer done.Done()
			statusAt := time.Now().Add(time.Duration(rand.Int63n(int64(5 * time.Minute))))
			time.Sleep(time.Duration(rand.Int63n(int64(10 * time.Second))))
			for time.Now().Before(until) {
				write(clients[i%8], &leases[i], lease)
				if time.Now().After(statusAt) {
					write(clients[i%8], &statuses[i], status)
					statusAt = statusAt.Add(5 * time.Minute)
				}
				time.Sleep(10 * time.Second)
			}
		}()
	}
	time.Sleep(time.Until(until))
	took := time.Since(began)
	cpu := float64(serverTicks()-ticks) * 10 / took.Seconds() / 10
	n := writes.Load()
	mu.Lock()
	l := slices.Clone(latency)
	mu.Unlock()
	sort.Slice(l, func(i, j int) bool { return l[i] < l[j] })
	if len(l) == 0 {
		l = []time.Duration{0}
	}
	fmt.Printf("%d nodes: %.0f writes/s  p50 %v  p99 %v  failed %d  %d events to %d watchers  server %.1f %% of a core\n",
		*nodes, float64(n)/took.Seconds(), l[len(l)/2].Round(10*time.Microsecond), l[len(l)*99/100].Round(10*time.Microsecond),
		failed.Load(), events.Load(), *watchers, cpu)
	os.Exit(0)
}
