// SPDX-License-Identifier: Apache-2.0

// kvload drives any etcd v3 endpoint with the exact transactions that the
// Kubernetes API server sends to its storage, and prints one line per phase.
//
//	kvload -endpoint http://127.0.0.1:2379 -clients 64 -n 20000 -size 1024
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"math/rand"
	"os"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

var (
	endpoint = flag.String("endpoint", "http://127.0.0.1:2379", "etcd v3 endpoint")
	clients  = flag.Int("clients", 64, "concurrent workers")
	conns    = flag.Int("conns", 4, "gRPC connections shared by the workers")
	n        = flag.Int("n", 20000, "keys")
	size     = flag.Int("size", 1024, "value size in bytes")
	watchers = flag.Int("watchers", 100, "watchers of the whole prefix in the fan-out phase")
	prefix   = flag.String("prefix", "/registry/pods/load", "key prefix")
	phases   = flag.String("phases", "create,get,update,list,page,watch,delete", "phases to run, in order")
	label    = flag.String("label", "", "name printed on each line")
	insecure = flag.Bool("insecure", false, "skip TLS verification")
)

func pct(l []time.Duration, p float64) time.Duration {
	if len(l) == 0 {
		return 0
	}
	return l[min(len(l)-1, int(float64(len(l))*p))]
}

var fails atomic.Int64

func phase(name string, total int, op func(worker, i int) error) {
	var next, bad atomic.Int64
	lat := make([][]time.Duration, *clients)
	var wg sync.WaitGroup
	start, cpu := time.Now(), serverCPU()
	for w := 0; w < *clients; w++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				i := int(next.Add(1)) - 1
				if i >= total {
					return
				}
				t := time.Now()
				if err := op(w, i); err != nil {
					if bad.Add(1) == 1 {
						fmt.Fprintln(os.Stderr, name, "first error:", err)
					}
				}
				lat[w] = append(lat[w], time.Since(t))
			}
		}()
	}
	wg.Wait()
	el, used := time.Since(start), serverCPU()-cpu
	var all []time.Duration
	for _, l := range lat {
		all = append(all, l...)
	}
	sort.Slice(all, func(i, j int) bool { return all[i] < all[j] })
	fails.Add(bad.Load())
	fmt.Printf("%-14s %-8s %8d ops %9.0f ops/s  p50 %8s  p99 %8s  max %8s  failed %d%s\n", *label, name, total,
		float64(total)/el.Seconds(), pct(all, .5).Round(10*time.Microsecond), pct(all, .99).Round(10*time.Microsecond),
		pct(all, 1).Round(10*time.Microsecond), bad.Load(), cpuPerOp(used, total))
}

func main() {
	flag.Parse()
	var cs []*clientv3.Client
	for i := 0; i < *conns; i++ {
		cfg := clientv3.Config{Endpoints: []string{*endpoint}, DialTimeout: 10 * time.Second, MaxCallRecvMsgSize: 1 << 30}
		if *insecure {
			cfg.TLS = &tls.Config{InsecureSkipVerify: true}
		}
		c, err := clientv3.New(cfg)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		defer c.Close()
		cs = append(cs, c)
	}
	ctx := context.Background()
	val := make([]byte, *size)
	for i := range val {
		val[i] = byte('a' + rand.Intn(26))
	}
	v := string(val)
	key := func(i int) string { return fmt.Sprintf("%s/ns-%03d/pod-%06d", *prefix, i%100, i) }
	rev := make([]int64, *n)
	for _, p := range strings.Split(*phases, ",") {
		switch p {
		case "create":
			phase(p, *n, func(w, i int) error {
				r, err := cs[w%*conns].Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key(i)), "=", 0)).Then(clientv3.OpPut(key(i), v)).Commit()
				if err != nil {
					return err
				}
				if !r.Succeeded {
					return fmt.Errorf("create %s: exists", key(i))
				}
				rev[i] = r.Header.Revision
				return nil
			})
		case "get":
			phase(p, *n, func(w, i int) error {
				r, err := cs[w%*conns].Get(ctx, key(i))
				if err == nil && len(r.Kvs) != 1 {
					err = fmt.Errorf("get %s: %d keys", key(i), len(r.Kvs))
				}
				if err == nil {
					rev[i] = r.Kvs[0].ModRevision
				}
				return err
			})
		case "update":
			phase(p, *n, func(w, i int) error {
				k := key(i)
				r, err := cs[w%*conns].Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(k), "=", rev[i])).Then(clientv3.OpPut(k, v)).Else(clientv3.OpGet(k)).Commit()
				if err != nil {
					return err
				}
				if !r.Succeeded {
					return fmt.Errorf("update %s: conflict", k)
				}
				rev[i] = r.Header.Revision
				return nil
			})
		case "list":
			phase(p, 20, func(w, i int) error {
				r, err := cs[w%*conns].Get(ctx, *prefix+"/", clientv3.WithPrefix())
				if err == nil && len(r.Kvs) != *n {
					err = fmt.Errorf("list: %d keys", len(r.Kvs))
				}
				return err
			})
		case "page":
			phase(p, 200, func(w, i int) error {
				r, err := cs[w%*conns].Get(ctx, *prefix+"/", clientv3.WithRange(clientv3.GetPrefixRangeEnd(*prefix+"/")), clientv3.WithLimit(500))
				if err == nil && len(r.Kvs) != min(500, *n) {
					err = fmt.Errorf("page: %d keys", len(r.Kvs))
				}
				return err
			})
		case "watch":
			m := min(*n, 2000)
			var got atomic.Int64
			var wg, ready sync.WaitGroup
			wctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
			now, err := cs[0].Get(ctx, key(0))
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			for i := 0; i < *watchers; i++ {
				wg.Add(1)
				ready.Add(1)
				go func() {
					defer wg.Done()
					ch := cs[i%*conns].Watch(clientv3.WithRequireLeader(wctx), *prefix+"/", clientv3.WithPrefix(), clientv3.WithPrevKV(), clientv3.WithCreatedNotify(), clientv3.WithRev(now.Header.Revision+1))
					seen := 0
					for r := range ch {
						if r.Created {
							ready.Done()
						}
						seen += len(r.Events)
						got.Add(int64(len(r.Events)))
						if seen >= m {
							return
						}
					}
				}()
			}
			ready.Wait()
			t, cpu := time.Now(), serverCPU()
			phase("watched", m, func(w, i int) error {
				k := key(i)
				r, err := cs[w%*conns].Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(k), "=", rev[i])).Then(clientv3.OpPut(k, v)).Else(clientv3.OpGet(k)).Commit()
				if err == nil && !r.Succeeded {
					err = fmt.Errorf("conflict")
				}
				if err == nil {
					rev[i] = r.Header.Revision
				}
				return err
			})
			wg.Wait()
			cancel()
			el := time.Since(t)
			fmt.Printf("%-14s %-8s %8d of %d events to %d watchers, %.0f events/s%s\n", *label, p, got.Load(), m**watchers, *watchers, float64(got.Load())/el.Seconds(), cpuPerOp(serverCPU()-cpu, m**watchers))
			if int(got.Load()) < m**watchers {
				fails.Add(1)
			}
		case "delete":
			phase(p, *n, func(w, i int) error {
				k := key(i)
				r, err := cs[w%*conns].Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(k), "=", rev[i])).Then(clientv3.OpDelete(k)).Else(clientv3.OpGet(k)).Commit()
				if err == nil && !r.Succeeded {
					err = fmt.Errorf("delete %s: conflict", k)
				}
				return err
			})
		}
	}
	if fails.Load() > 0 {
		os.Exit(1)
	}
}
