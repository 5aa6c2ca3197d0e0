// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
)

func (c *cluster) begin() (prefix string, from int64, err error) {
	c.runs++
	from, err = c.head()
	return fmt.Sprintf("/watchload/%d/run%d/d", *seed, c.runs), from + 1, err
}

func inDir(all []change, dir string) []change {
	var some []change
	for _, ch := range all {
		if strings.HasPrefix(ch.key, dir) {
			some = append(some, ch)
		}
	}
	return some
}

func forSeconds() { <-time.After(time.Duration(*seconds) * time.Second) }

// How long ago an event's value was made.
func lagOf(e *mvccpb.Event) (time.Duration, bool) {
	if e.Type != mvccpb.Event_PUT || len(e.Kv.Value) < 8 {
		return 0, false
	}
	return time.Duration(time.Now().UnixNano() - int64(binary.LittleEndian.Uint64(e.Kv.Value))), true
}

// Collects the changes under a directory from rev on, through any number of streams.
type collector struct {
	c    *cluster
	i    int
	dir  string
	from int64
	got  []change
	lags []time.Duration
}

// Reads one stream until `until` says that it is enough or `life` is over.
func (w *collector) run(life time.Duration, until func() bool, opts ...grpc.DialOption) error {
	s, err := w.c.stream(w.i, opts...)
	if err != nil {
		return err
	}
	defer s.close()
	if life > 0 {
		t := time.AfterFunc(life, s.cancel)
		defer t.Stop()
	}
	if err := s.create(&pb.WatchCreateRequest{Key: []byte(w.dir), RangeEnd: prefixEnd(w.dir), StartRevision: w.from}); err != nil {
		return err
	}
	for !until() {
		r, err := s.st.Recv()
		if err != nil {
			return err
		}
		if r.Canceled {
			return fmt.Errorf("cancelled: %s, compacted to %d", r.CancelReason, r.CompactRevision)
		}
		for _, e := range r.Events {
			if e.Kv.ModRevision < w.from {
				return fmt.Errorf("event at %d, asked for from %d on", e.Kv.ModRevision, w.from)
			}
			w.got = append(w.got, toChange(e))
			if lag, ok := lagOf(e); ok {
				w.lags = append(w.lags, lag)
			}
		}
		if n := len(r.Events); n > 0 {
			w.from = r.Events[n-1].Kv.ModRevision + 1
		}
	}
	return nil
}

func reliability(c *cluster) (string, error) {
	const dirs = 100
	prefix, from, err := c.begin()
	if err != nil {
		return "", err
	}
	var wg sync.WaitGroup
	var ended atomic.Bool
	want := make([]atomic.Int64, dirs) // events due, known at the end
	all := make([]*collector, *watchers)
	errs := make([]error, *watchers)
	var cuts atomic.Int64
	for i := range all {
		w := &collector{c: c, i: i, dir: fmt.Sprintf("%s%03d/", prefix, i%dirs), from: from}
		all[i] = w
		wg.Add(1)
		go func() {
			defer wg.Done()
			rng := rand.New(rand.NewSource(*seed*1000 + int64(i)))
			done := func() bool { return ended.Load() && int64(len(w.got)) >= want[i%dirs].Load() }
			give := time.Time{}
			for !done() {
				life := time.Duration(rng.Intn(10000)+500) * time.Millisecond
				if ended.Load() { // to the end now; a short life only so that one without events ends
					life = time.Second
					if give.IsZero() {
						give = time.Now().Add(deadline)
					}
					if time.Now().After(give) {
						return
					}
				}
				err := w.run(life, done)
				if err != nil && !strings.Contains(err.Error(), "Canceled") {
					errs[i] = err
					return
				}
				cuts.Add(1)
			}
		}()
	}
	l := c.load(prefix, dirs, 64, 32, *rate)
	forSeconds()
	if err := l.finish(); err != nil {
		return "", err
	}
	byDir := make([][]change, dirs)
	for d := range byDir {
		byDir[d] = inDir(l.done, fmt.Sprintf("%s%03d/", prefix, d))
		want[d].Store(int64(len(byDir[d])))
	}
	ended.Store(true)
	wg.Wait()
	total := 0
	for i, w := range all {
		if errs[i] == nil {
			errs[i] = compare(fmt.Sprintf("watcher %d", i), byDir[i%dirs], w.got)
		}
		if errs[i] != nil {
			return fmt.Sprintf("%d writes", len(l.done)), errs[i]
		}
		total += len(w.got)
	}
	return fmt.Sprintf("%d writes, %d watchers, %d streams, %d events", len(l.done), *watchers, cuts.Load(), total), nil
}

func bookmarks(c *cluster) (string, error) {
	const streams, dirs = 4, 8
	prefix, from, err := c.begin()
	if err != nil {
		return "", err
	}
	var wg sync.WaitGroup
	var seen, told atomic.Int64
	var bad atomic.Pointer[error]
	fail := func(err error) { bad.CompareAndSwap(nil, &err) }
	var all []*stream
	for i := 0; i < streams; i++ {
		s, err := c.stream(i)
		if err != nil {
			return "", err
		}
		all = append(all, s)
		for d := 0; d < dirs; d++ {
			dir := fmt.Sprintf("%s%03d/", prefix, d)
			if err := s.create(&pb.WatchCreateRequest{Key: []byte(dir), RangeEnd: prefixEnd(dir), StartRevision: from, WatchId: int64(d + 1)}); err != nil {
				return "", err
			}
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			progress, last := int64(0), map[int64]int64{}
			for {
				r, err := s.st.Recv()
				if err != nil {
					return
				}
				if r.WatchId == -1 && len(r.Events) == 0 {
					if r.Header.Revision < progress {
						fail(fmt.Errorf("progress went from %d back to %d", progress, r.Header.Revision))
					}
					progress = r.Header.Revision
					told.Add(1)
					s.progress()
				}
				for _, e := range r.Events {
					if e.Kv.ModRevision <= progress || e.Kv.ModRevision <= last[r.WatchId] {
						fail(fmt.Errorf("event at %d after progress %d and event %d", e.Kv.ModRevision, progress, last[r.WatchId]))
					}
					last[r.WatchId] = e.Kv.ModRevision
					seen.Add(1)
				}
			}
		}()
	}
	go func() { // again, for servers that forget a request while a watch catches up
		for tick := time.NewTicker(50 * time.Millisecond); bad.Load() == nil && seen.Load() < int64(*events); <-tick.C {
			for _, s := range all {
				s.progress()
			}
		}
	}()
	l := c.load(prefix, dirs, 64, 32, 100000)
	give := time.Now().Add(10 * deadline)
	for tick := time.NewTicker(10 * time.Millisecond); seen.Load() < int64(*events) && bad.Load() == nil && time.Now().Before(give); {
		<-tick.C
	}
	err = l.finish()
	for _, s := range all {
		s.close()
	}
	wg.Wait()
	if p := bad.Load(); err == nil && p != nil {
		err = *p
	}
	if err == nil && (seen.Load() < int64(*events) || told.Load() == 0) {
		err = fmt.Errorf("too few events or progress answers")
	}
	return fmt.Sprintf("%d events, %d progress answers", seen.Load(), told.Load()), err
}

func p99(lags []time.Duration) time.Duration {
	if len(lags) == 0 {
		return 0
	}
	sort.Slice(lags, func(i, j int) bool { return lags[i] < lags[j] })
	return lags[len(lags)*99/100]
}

func rss() int64 { // KiB
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", *pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	n, _ := strconv.ParseInt(strings.Fields(rest + " 0")[0], 10, 64)
	return n
}

// One phase of T11: fast watchers of a hundredth of the events each, and perhaps one that reads all
// of them slowly. Returns the fast ones' p99.
func slowPhase(c *cluster, slow bool) (p time.Duration, n int, err error) {
	const dirs = 100
	prefix, from, err := c.begin()
	if err != nil {
		return 0, 0, err
	}
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var mu sync.Mutex
	var lags []time.Duration
	var streams []*stream
	for i := 0; i < *watchers; i++ {
		if i%50 == 0 {
			s, err := c.stream(i)
			if err != nil {
				return 0, 0, err
			}
			streams = append(streams, s)
		}
		s := streams[len(streams)-1]
		dir := fmt.Sprintf("%s%03d/", prefix, i%dirs)
		if err := s.create(&pb.WatchCreateRequest{Key: []byte(dir), RangeEnd: prefixEnd(dir), StartRevision: from}); err != nil {
			return 0, 0, err
		}
	}
	for _, s := range streams {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				r, err := s.st.Recv()
				if err != nil {
					return
				}
				mu.Lock()
				for _, e := range r.Events {
					if lag, ok := lagOf(e); ok {
						lags = append(lags, lag)
					}
				}
				mu.Unlock()
			}
		}()
	}
	var slowErr error
	var slowGot []change
	var total atomic.Int64
	total.Store(1 << 60)
	slowDone := make(chan struct{})
	go func() {
		defer close(slowDone)
		if !slow {
			return
		}
		s, err := c.stream(0, grpc.WithInitialWindowSize(65536), grpc.WithInitialConnWindowSize(65536))
		if err == nil {
			defer s.close()
			err = s.create(&pb.WatchCreateRequest{Key: []byte(prefix), RangeEnd: prefixEnd(prefix), StartRevision: from})
		}
		tick := time.NewTicker(time.Second)
		for err == nil && int64(len(slowGot)) < total.Load() {
			var r *pb.WatchResponse
			if r, err = s.st.Recv(); err != nil || r.Canceled {
				err = fmt.Errorf("the slow one: %v %v", err, r)
				break
			}
			for _, e := range r.Events {
				slowGot = append(slowGot, toChange(e))
			}
			select {
			case <-tick.C: // about one response in a second
			case <-ctx.Done():
			}
		}
		slowErr = err
	}()
	l := c.load(prefix, dirs, 1024, 32, *rate)
	forSeconds()
	if err := l.finish(); err != nil {
		return 0, 0, err
	}
	total.Store(int64(len(l.done)))
	cancel() // no longer slow
	select {
	case <-slowDone:
	case <-time.After(deadline):
		return 0, 0, fmt.Errorf("the slow one did not catch up: %d of %d", len(slowGot), len(l.done))
	}
	for _, s := range streams {
		s.close()
	}
	wg.Wait()
	if slow && slowErr == nil {
		slowErr = compare("the slow one", l.done, slowGot)
	}
	return p99(lags), len(l.done), slowErr
}

func slowWatcher(c *cluster) (string, error) {
	var detail string
	before, felt := rss(), true
	// What else the machine does falls on either half: the best of three pairs counts.
	for try := 0; felt && try < 3; try++ {
		without, _, err := slowPhase(c, false)
		if err != nil {
			return "", err
		}
		if try == 0 {
			before = rss()
		}
		late := overslept()
		with, n, err := slowPhase(c, true)
		slack := without + 500*time.Millisecond + 20*late() // of a machine with other things to do
		if *strict {
			slack = max(without/10, 20*time.Millisecond)
		}
		detail = fmt.Sprintf("%d writes, p99 of the fast %s, without a slow one %s, grown by %d KiB", n,
			with.Round(100*time.Microsecond), without.Round(100*time.Microsecond), rss()-before)
		if err != nil {
			return detail, err
		}
		felt = with > without+slack
	}
	if felt {
		return detail, fmt.Errorf("the fast ones feel it")
	}
	if grown := rss() - before; *pid > 0 && grown > 64<<10 {
		return detail, fmt.Errorf("the server grew by %d KiB", grown)
	}
	return detail, nil
}

func starvation(c *cluster) (string, error) {
	const dirs = 50
	prefix, from, err := c.begin()
	if err != nil {
		return "", err
	}
	s, err := c.stream(0)
	if err != nil {
		return "", err
	}
	defer s.close()
	for i := 0; i < *shared; i++ {
		dir := fmt.Sprintf("%s%03d/", prefix, i%dirs)
		if err := s.create(&pb.WatchCreateRequest{Key: []byte(dir), RangeEnd: prefixEnd(dir), StartRevision: from, WatchId: int64(i + 1)}); err != nil {
			return "", err
		}
	}
	got := make([]int64, *shared+1)
	worst := make([]time.Duration, *shared+1)
	var total atomic.Int64
	go func() {
		for {
			r, err := s.st.Recv()
			if err != nil {
				return
			}
			for _, e := range r.Events {
				if lag, ok := lagOf(e); ok {
					worst[r.WatchId] = max(worst[r.WatchId], lag)
				}
				got[r.WatchId]++
				total.Add(1)
			}
		}
	}()
	late := overslept()
	l := c.load(prefix, dirs, 256, 32, *rate)
	forSeconds()
	if err := l.finish(); err != nil {
		return "", err
	}
	want := int64(0)
	perDir := map[string]int64{}
	for _, ch := range l.done {
		perDir[ch.key[:len(prefix)+4]]++
	}
	for i := 0; i < *shared; i++ {
		want += perDir[fmt.Sprintf("%s%03d/", prefix, i%dirs)]
	}
	give := time.Now().Add(deadline)
	for tick := time.NewTicker(10 * time.Millisecond); total.Load() < want && time.Now().Before(give); {
		<-tick.C
	}
	slowest := time.Duration(0)
	for i := 1; i <= *shared; i++ {
		slowest = max(slowest, worst[i])
		if n := perDir[fmt.Sprintf("%s%03d/", prefix, (i-1)%dirs)]; got[i] != n && err == nil {
			err = fmt.Errorf("watch %d: %d events, must be %d", i, got[i], n)
		}
	}
	woken := late()
	if err == nil && slowest > max(time.Second, 20*woken) {
		err = fmt.Errorf("a watch lagged")
	}
	return fmt.Sprintf("%d writes, %d watches on one stream, %d events, largest lag %s, a sleeper was woken %s late",
		len(l.done), *shared, total.Load(), slowest.Round(time.Millisecond), woken.Round(time.Millisecond)), err
}

// By how much this process, when it only sleeps, is woken too late at worst, from now until it is asked:
// what a machine that has more to do than it can makes of every time that is measured here.
func overslept() func() time.Duration {
	over, worst := make(chan struct{}), make(chan time.Duration)
	go func() {
		most := time.Duration(0)
		for {
			select {
			case <-over:
				worst <- most
				return
			default:
			}
			at := time.Now()
			time.Sleep(10 * time.Millisecond)
			most = max(most, time.Since(at)-10*time.Millisecond)
		}
	}()
	return func() time.Duration {
		close(over)
		return <-worst
	}
}

func future(c *cluster) (string, error) {
	const n = 100
	prefix, from, err := c.begin()
	if err != nil {
		return "", err
	}
	dir := prefix + "000/"
	var wg sync.WaitGroup
	var ended atomic.Bool
	errs := make([]error, n)
	all := make([]*collector, n)
	for i := range all {
		w := &collector{c: c, i: i, dir: dir, from: from + int64(i*20)}
		all[i] = w
		wg.Add(1)
		go func() {
			defer wg.Done()
			for !ended.Load() && errs[i] == nil {
				if err := w.run(2*time.Second, ended.Load); err != nil && !strings.Contains(err.Error(), "Canceled") {
					errs[i] = err
				}
			}
		}()
	}
	starts := make([]int64, n)
	for i, w := range all {
		starts[i] = from + int64(i*20)
		_ = w
	}
	l := c.load(prefix, 1, 64, 8, *rate)
	forSeconds()
	if err := l.finish(); err != nil {
		return "", err
	}
	ended.Store(true)
	wg.Wait()
	for i, w := range all {
		if errs[i] != nil {
			return "", errs[i]
		}
		// To the end, by one more stream from where it was.
		want := []change{}
		for _, ch := range l.done {
			if ch.rev >= starts[i] {
				want = append(want, ch)
			}
		}
		if err := w.run(deadline, func() bool { return len(w.got) >= len(want) }); err != nil {
			return "", err
		}
		if err := compare(fmt.Sprintf("watch from %d", starts[i]), want, w.got); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%d writes, %d watches that began up to %d revisions ahead", len(l.done), n, n*20), nil
}

// A deletion of many keys is one response, or fragments of one, when it is read from memory and when
// it is read from the back end's history in pages.
func transactions(c *cluster) (string, error) {
	const keys, filler, fillers = 3000, 32 << 10, 700 // the filler is more than the server keeps
	prefix, from, err := c.begin()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	value := make([]byte, 1024)
	for i := 0; i < keys; i += 100 {
		t := &pb.TxnRequest{}
		for k := i; k < i+100; k++ {
			t.Success = append(t.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{
				Key: []byte(fmt.Sprintf("%s000/k%05d", prefix, k)), Value: value}}})
		}
		if _, err := c.kv[0].Txn(ctx, t); err != nil {
			return "", err
		}
	}
	dir := prefix + "000/"
	del, err := c.kv[0].DeleteRange(ctx, &pb.DeleteRangeRequest{Key: []byte(dir), RangeEnd: prefixEnd(dir)})
	if err != nil {
		return "", err
	}
	look := func(fragment bool) error {
		s, err := c.stream(0)
		if err != nil {
			return err
		}
		defer s.close()
		stop := time.AfterFunc(deadline, s.cancel)
		defer stop.Stop()
		if err := s.create(&pb.WatchCreateRequest{Key: []byte(dir), RangeEnd: prefixEnd(dir), StartRevision: from, PrevKv: true, Fragment: fragment}); err != nil {
			return err
		}
		got, last, unfinished, fragments := 0, int64(0), false, 0
		for got < 2*keys {
			r, err := s.st.Recv()
			if err != nil {
				return fmt.Errorf("after %d events: %w", got, err)
			}
			if n := len(r.Events); n > 0 {
				if r.Events[0].Kv.ModRevision == last && !unfinished {
					return fmt.Errorf("the transaction at %d came in two responses", last)
				}
				last, unfinished = r.Events[n-1].Kv.ModRevision, r.Fragment
			}
			if r.Fragment {
				fragments++
			}
			for _, e := range r.Events {
				if e.Type == mvccpb.Event_DELETE && (e.PrevKv == nil || len(e.PrevKv.Value) != len(value)) {
					return fmt.Errorf("a deletion without what was there: %s", e.Kv.Key)
				}
			}
			got += len(r.Events)
		}
		if got != 2*keys || last != del.Header.Revision || unfinished || fragment != (fragments > 0) {
			return fmt.Errorf("%d events to %d, %d fragments", got, last, fragments)
		}
		return nil
	}
	for round, where := range []string{"from memory", "from history"} {
		for _, fragment := range []bool{false, true} {
			if err := look(fragment); err != nil {
				return "", fmt.Errorf("%s: %w", where, err)
			}
		}
		for i := 0; i < fillers && round == 0; i++ {
			if _, err := c.kv[0].Put(ctx, &pb.PutRequest{Key: []byte(prefix + "filler"), Value: make([]byte, filler)}); err != nil {
				return "", err
			}
		}
	}
	return fmt.Sprintf("a deletion of %d keys", keys), nil
}
