// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand"
	"net/url"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

const deadline = 240 * time.Second // for what must come at last

const pool = 20 // connections that streams without options share

type cluster struct {
	targets []string
	mu      sync.Mutex
	conns   map[int]*grpc.ClientConn
	kv      []pb.KVClient
	runs    int
}

func target(endpoint string) string {
	if u, err := url.Parse(endpoint); err == nil && u.Host != "" {
		return u.Host
	} else if err == nil && u.Scheme == "unix" {
		return "unix://" + u.Path
	}
	return endpoint
}

func dial(endpoint string, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	return grpc.NewClient(target(endpoint), append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)))...)
}

func connect(endpoints []string) (*cluster, error) {
	c := &cluster{targets: endpoints, conns: map[int]*grpc.ClientConn{}}
	for _, e := range endpoints {
		conn, err := dial(e)
		if err != nil {
			return nil, err
		}
		kv := pb.NewKVClient(conn)
		ctx, cancel := context.WithTimeout(context.Background(), 120*time.Second)
		_, err = kv.Range(ctx, &pb.RangeRequest{Key: []byte("x")})
		cancel()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e, err)
		}
		c.kv = append(c.kv, kv)
	}
	return c, nil
}

func (c *cluster) head() (int64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 120*time.Second)
	defer cancel()
	r, err := c.kv[0].Range(ctx, &pb.RangeRequest{Key: []byte("x")})
	if err != nil {
		return 0, err
	}
	return r.Header.Revision, nil
}

// A change as its writer was told, or as a watch tells it.
type change struct {
	rev    int64
	key    string
	delete bool
}

func (a change) before(b change) bool { return a.rev < b.rev || a.rev == b.rev && a.key < b.key }

// Writers at a rate on the keys under prefix; afterwards `done` holds every change that was
// acknowledged, in order.
type load struct {
	c       *cluster
	prefix  string
	keys    int
	value   []byte
	stop    atomic.Bool
	wg      sync.WaitGroup
	mu      sync.Mutex
	done    []change
	err     error
	written atomic.Int64
	slowest atomic.Int64 // ns
}

func (c *cluster) load(prefix string, keys, size, writers, perSecond int) *load {
	l := &load{c: c, prefix: prefix, keys: keys, value: make([]byte, size)}
	for w := 0; w < writers; w++ {
		l.wg.Add(1)
		go l.write(w, writers, perSecond)
	}
	return l
}

func (l *load) write(w, writers, perSecond int) {
	defer l.wg.Done()
	rng := rand.New(rand.NewSource(*seed + int64(w)))
	kv := l.c.kv[w%len(l.c.kv)]
	gap := time.Duration(int64(time.Second) * int64(writers) / int64(perSecond))
	next := time.Now()
	for !l.stop.Load() {
		key := fmt.Sprintf("%s%03d/k%d", l.prefix, rng.Intn(l.keys), rng.Intn(4))
		began := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		var err error
		var ch change
		if rng.Intn(10) == 0 {
			var r *pb.DeleteRangeResponse
			if r, err = kv.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: []byte(key)}); err == nil && r.Deleted == 1 {
				ch = change{r.Header.Revision, key, true}
			}
		} else {
			var r *pb.PutResponse
			value := append([]byte(nil), l.value...)
			binary.LittleEndian.PutUint64(value, uint64(began.UnixNano()))
			if r, err = kv.Put(ctx, &pb.PutRequest{Key: []byte(key), Value: value}); err == nil {
				ch = change{r.Header.Revision, key, false}
			}
		}
		cancel()
		l.slowest.Store(max(l.slowest.Load(), int64(time.Since(began))))
		l.mu.Lock()
		if err != nil {
			l.err = err
			l.mu.Unlock()
			return
		}
		if ch.rev > 0 {
			l.done = append(l.done, ch)
			l.written.Add(1)
		}
		l.mu.Unlock()
		next = next.Add(gap)
		if wait := time.Until(next); wait > 0 {
			timer := time.NewTimer(wait)
			<-timer.C
		} else {
			next = time.Now()
		}
	}
}

func (l *load) finish() error {
	l.stop.Store(true)
	l.wg.Wait()
	sort.Slice(l.done, func(i, j int) bool { return l.done[i].before(l.done[j]) })
	return l.err
}

// A watch on a stream of its own or shared, read to the end by its owner.
type stream struct {
	conn   *grpc.ClientConn // of its own, or nil
	st     pb.Watch_WatchClient
	cancel context.CancelFunc
}

func (c *cluster) stream(i int, opts ...grpc.DialOption) (*stream, error) {
	s := &stream{}
	conn, err := c.shared(i)
	if len(opts) > 0 && err == nil {
		conn, err = dial(c.targets[i%len(c.targets)], opts...)
		s.conn = conn
	}
	if err != nil {
		return nil, err
	}
	var ctx context.Context
	ctx, s.cancel = context.WithCancel(context.Background())
	if s.st, err = pb.NewWatchClient(conn).Watch(ctx); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (c *cluster) shared(i int) (*grpc.ClientConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i %= pool * len(c.targets)
	var err error
	if c.conns[i] == nil {
		c.conns[i], err = dial(c.targets[i%len(c.targets)])
	}
	return c.conns[i], err
}

func (s *stream) close() {
	s.cancel()
	if s.conn != nil {
		s.conn.Close()
	}
}

func (s *stream) create(q *pb.WatchCreateRequest) error {
	return s.st.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: q}})
}

func (s *stream) progress() error {
	return s.st.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}})
}

func prefixEnd(p string) []byte {
	end := []byte(p)
	end[len(end)-1]++
	return end
}

func toChange(e *mvccpb.Event) change {
	return change{e.Kv.ModRevision, string(e.Kv.Key), e.Type == mvccpb.Event_DELETE}
}

// The two lists are the same.
func compare(what string, want, got []change) error {
	for i := 0; i < len(want) && i < len(got); i++ {
		if want[i] != got[i] {
			return fmt.Errorf("%s: event %d is %v, must be %v", what, i, got[i], want[i])
		}
	}
	if len(want) != len(got) {
		return fmt.Errorf("%s: %d events, must be %d", what, len(got), len(want))
	}
	return nil
}
