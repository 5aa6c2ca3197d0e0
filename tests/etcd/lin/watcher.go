// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"math/rand"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// Follows the prefix from its first revision on, from server to server, going on behind the newest
// revision it has seen.
type watcher struct {
	mu       sync.Mutex
	events   []*mvccpb.Event
	progress int64 // every event up to here was taken
	cancel   context.CancelFunc
	done     chan struct{}
}

func startWatcher(servers []*server, r *rand.Rand) *watcher {
	ctx, cancel := context.WithCancel(context.Background())
	w := &watcher{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		for ctx.Err() == nil {
			w.follow(ctx, servers[r.Intn(len(servers))], r)
			time.Sleep(time.Duration(10+r.Intn(50)) * time.Millisecond)
		}
	}()
	return w
}

func (w *watcher) follow(ctx context.Context, s *server, r *rand.Rand) {
	// Now and then it goes elsewhere by itself.
	ctx, cancel := context.WithTimeout(ctx, time.Duration(1+r.Intn(4000))*time.Millisecond)
	defer cancel()
	conn := dial(s)
	defer conn.Close()
	stream, err := pb.NewWatchClient(conn).Watch(ctx)
	if err != nil {
		return
	}
	w.mu.Lock()
	from := w.progress + 1
	w.mu.Unlock()
	create := &pb.WatchCreateRequest{Key: []byte(prefix), RangeEnd: []byte(prefixEnd), StartRevision: from, PrevKv: true}
	if stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}}) != nil {
		return
	}
	go func() { // what has no events of its own is passed by asking
		for ctx.Err() == nil {
			time.Sleep(100 * time.Millisecond)
			if stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}) != nil {
				return
			}
		}
	}()
	for {
		resp, err := stream.Recv()
		if err != nil {
			return
		}
		if resp.Canceled {
			fail("watch from %d canceled: %s, compacted to %d", from, resp.CancelReason, resp.CompactRevision)
		}
		w.take(resp)
	}
}

func (w *watcher) take(resp *pb.WatchResponse) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if resp.Created {
		return
	}
	if len(resp.Events) == 0 {
		if resp.Header.Revision > w.progress {
			w.progress = resp.Header.Revision
		}
		return
	}
	for _, e := range resp.Events {
		if e.Kv.ModRevision <= w.progress {
			fail("event of %s at %d after progress to %d", e.Kv.Key, e.Kv.ModRevision, w.progress)
		}
		w.events = append(w.events, e)
	}
	w.progress = resp.Events[len(resp.Events)-1].Kv.ModRevision
}

func (w *watcher) upTo(rev int64) []*mvccpb.Event {
	for until := time.Now().Add(180 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		w.mu.Lock()
		events, progress := w.events, w.progress
		w.mu.Unlock()
		if progress >= rev {
			for i, e := range events {
				if e.Kv.ModRevision > rev {
					return events[:i]
				}
			}
			return events
		}
		if time.Now().After(until) {
			fail("a watcher has come to %d, not to %d", progress, rev)
		}
	}
}

func (w *watcher) stop() int {
	w.cancel()
	<-w.done
	return len(w.events)
}
