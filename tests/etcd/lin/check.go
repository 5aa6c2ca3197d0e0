// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// The revision is the witness of linearizability: the watchers' events, which must be the same for
// all of them, are the one order of writes. Each answer carries the revision at which it claims to
// have happened. Then the history is linearizable in that order exactly if
//   - each answered write is there at its revision, each other at most once,
//   - what was read at revision R is what the writes up to R left, and guards held where they won,
//   - nothing happened at a revision below one that somebody had seen before it began, writes above.
type history struct {
	mu   sync.Mutex
	zero time.Time
	ops  []*op
	last int64 // revision checked up to
}

func newHistory() *history { return &history{zero: time.Now()} }

func (h *history) now() time.Duration { return time.Since(h.zero) }

func (h *history) add(o *op) {
	h.mu.Lock()
	h.ops = append(h.ops, o)
	h.mu.Unlock()
}

func (h *history) counts() (answered, unknown int) {
	for _, o := range h.ops {
		if o.ok {
			answered++
		} else {
			unknown++
		}
	}
	return
}

func show(kv *mvccpb.KeyValue) string {
	if kv == nil {
		return "nothing"
	}
	return fmt.Sprintf("%q created %d modified %d version %d", kv.Value, kv.CreateRevision, kv.ModRevision, kv.Version)
}

// All versions of a key in order; Version 0 is a deletion.
type versions map[string][]*mvccpb.KeyValue

func (v versions) at(key string, rev int64) *mvccpb.KeyValue {
	l := v[key]
	n := sort.Search(len(l), func(i int) bool { return l[i].ModRevision > rev })
	if n == 0 || l[n-1].Version == 0 {
		return nil
	}
	return l[n-1]
}

func newest(s *server) *pb.RangeResponse {
	conn := dial(s)
	defer conn.Close()
	for until := time.Now().Add(180 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		resp, err := pb.NewKVClient(conn).Range(ctx, &pb.RangeRequest{Key: []byte(prefix), RangeEnd: []byte(prefixEnd)})
		cancel()
		if err == nil {
			return resp
		}
		if time.Now().After(until) {
			fail("server %d does not answer: %v", s.n, err)
		}
	}
}

func (h *history) check(servers []*server, watchers []*watcher) {
	var head int64
	for _, s := range servers {
		if r := newest(s).Header.Revision; r > head {
			head = r
		}
	}
	var events []*mvccpb.Event
	for i, w := range watchers {
		got := w.upTo(head)
		if i == 0 {
			events = got
			continue
		}
		for k := range got {
			if k >= len(events) || got[k].String() != events[k].String() {
				fail("watcher %d: event %d is %v, watcher 0 has another one or none", i, k, got[k])
			}
		}
		if len(got) != len(events) {
			fail("watcher %d has %d events, watcher 0 %d", i, len(got), len(events))
		}
	}
	state, written := h.replay(events)
	h.checkWrites(state, written)
	h.checkOrder(written)
	for _, s := range servers {
		h.compare(state, &op{rev: head, isRead: true, from: prefix, to: prefixEnd, read: newest(s).Kvs})
	}
	h.last = head
}

// The versions, and the revision at which each value was written.
func (h *history) replay(events []*mvccpb.Event) (versions, map[string]int64) {
	state, written := versions{}, map[string]int64{}
	var rev, before, n int64 // n: events of this revision so far
	for i, e := range events {
		kv, key := e.Kv, string(e.Kv.Key)
		if kv.ModRevision < rev {
			fail("the event of %s at %d comes after revision %d", key, kv.ModRevision, rev)
		}
		if kv.ModRevision != rev {
			before, rev, n = rev, kv.ModRevision, 0
		}
		n++
		last := i+1 == len(events) || events[i+1].Kv.ModRevision != rev
		if *gapless && before != 0 && last && rev != before+n {
			fail("%d events at revision %d, which comes after %d", n, rev, before)
		}
		old := state.at(key, rev)
		var prev int64
		if old != nil {
			prev = old.ModRevision
		}
		if e.PrevKv.GetModRevision() != prev {
			fail("%s at %d: previous is %s, it was %s", key, rev, show(e.PrevKv), show(old))
		}
		if e.Type == mvccpb.Event_DELETE {
			state[key] = append(state[key], &mvccpb.KeyValue{Key: kv.Key, ModRevision: rev})
			continue
		}
		want := &mvccpb.KeyValue{Key: kv.Key, Value: kv.Value, CreateRevision: rev, ModRevision: rev, Version: 1}
		if old != nil {
			want.CreateRevision, want.Version = old.CreateRevision, old.Version+1
		}
		if show(kv) != show(want) {
			fail("%s at %d is %s, must be %s", key, rev, show(kv), show(want))
		}
		if at, twice := written[string(kv.Value)]; twice {
			fail("%q was written at %d and again at %d", kv.Value, at, rev)
		}
		written[string(kv.Value)] = rev
		state[key] = append(state[key], want)
	}
	return state, written
}

func (h *history) checkWrites(state versions, written map[string]int64) {
	asked := map[string]bool{}
	for _, o := range h.ops {
		for _, v := range o.values {
			asked[v] = true
		}
		if !o.ok {
			continue
		}
		if o.isRead {
			h.compare(state, o)
		}
		for i, key := range o.keys {
			now := state.at(key, o.rev)
			switch {
			case !o.wrote && o.values[i] != "" && written[o.values[i]] != 0:
				fail("%s: %q lost its comparison and is there at %d", key, o.values[i], written[o.values[i]])
			case !o.wrote:
			case o.values[i] != "" && written[o.values[i]] != o.rev:
				fail("%s: %q was acknowledged at %d, is there at %d", key, o.values[i], o.rev, written[o.values[i]])
			case o.values[i] == "" && now != nil:
				fail("%s: deleted at %d, but %s", key, o.rev, show(now))
			}
			if i == 0 && o.guard >= 0 && o.wrote {
				var was int64
				if old := state.at(key, o.rev-1); old != nil {
					was = old.ModRevision
				}
				if was != o.guard {
					fail("%s at %d: guard %d held, it was %d", key, o.rev, o.guard, was)
				}
			}
		}
	}
	for v, rev := range written {
		if !asked[v] {
			fail("%q at %d was asked for by nobody", v, rev)
		}
	}
}

func (h *history) compare(state versions, o *op) {
	var want, got []string
	if o.to == "" {
		if kv := state.at(o.from, o.rev); kv != nil {
			want = append(want, o.from+" "+show(kv))
		}
	} else {
		for key := range state {
			if kv := state.at(key, o.rev); kv != nil {
				want = append(want, key+" "+show(kv))
			}
		}
	}
	for _, kv := range o.read {
		got = append(got, string(kv.Key)+" "+show(kv))
	}
	sort.Strings(want)
	if strings.Join(want, "\n") != strings.Join(got, "\n") {
		fail("read of %s at %d gave\n%s\nand must give\n%s", o.from, o.rev, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func (h *history) checkOrder(written map[string]int64) {
	type seen struct {
		at  time.Duration
		rev int64
	}
	var ends []seen
	for _, o := range h.ops {
		if o.ok {
			ends = append(ends, seen{o.end, o.rev})
		}
	}
	sort.Slice(ends, func(i, j int) bool { return ends[i].at < ends[j].at })
	for i := 1; i < len(ends); i++ {
		if ends[i].rev < ends[i-1].rev {
			ends[i].rev = ends[i-1].rev
		}
	}
	for _, o := range h.ops {
		rev := o.rev
		if !o.ok { // if it happened, then not before it was asked for
			rev = 0
			for _, v := range o.values {
				if at := written[v]; v != "" && at != 0 {
					rev = at
				}
			}
			if rev == 0 {
				continue
			}
		}
		n := sort.Search(len(ends), func(i int) bool { return ends[i].at >= o.start })
		if n == 0 {
			continue
		}
		before := ends[n-1].rev
		wrote := o.wrote || !o.ok
		if rev < before || (wrote && rev == before) {
			fail("an operation that began at %v happened at %d; %d had been seen before (%v %q)", o.start, rev, before, o.keys, o.values)
		}
	}
}
