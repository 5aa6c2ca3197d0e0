// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

const settle = 120 * time.Second // longest wait for something that must come

// What one side has sent on its one watch stream.
type watchStream struct {
	side   *side
	st     pb.Watch_WatchClient
	mu     sync.Mutex
	change chan struct{}
	ctrl   []*pb.WatchResponse       // created and cancelled, in order
	events map[int64][]*mvccpb.Event // by watch
	open   map[int64]int64           // revision of the last event while a fragment is unfinished
	last   map[int64]int64           // mod revision of the last event
	bad    []string                  // rules of the protocol that were broken
	floor  map[int64]int64           // of the open watches: the newest progress answer since they were opened
	pgress int64                     // newest revision of a progress answer for all watches
}

func openStream(s *side) (*watchStream, error) {
	st, err := s.watch.Watch(context.Background())
	if err != nil {
		return nil, err
	}
	w := &watchStream{side: s, st: st, change: make(chan struct{}), events: map[int64][]*mvccpb.Event{},
		open: map[int64]int64{}, last: map[int64]int64{}, floor: map[int64]int64{}}
	go w.run()
	return w, nil
}

func (w *watchStream) run() {
	for {
		r, err := w.st.Recv()
		w.mu.Lock()
		if err != nil {
			w.bad = append(w.bad, "the stream ended: "+errText(err))
		} else {
			w.take(r)
		}
		close(w.change)
		w.change = make(chan struct{})
		w.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (w *watchStream) take(r *pb.WatchResponse) {
	switch {
	case r.Created || r.Canceled:
		w.ctrl = append(w.ctrl, r)
		delete(w.last, r.WatchId)
		delete(w.open, r.WatchId)
		delete(w.floor, r.WatchId)
		if !r.Canceled {
			w.floor[r.WatchId] = 0
		}
	case len(r.Events) == 0 && r.WatchId == -1:
		w.pgress = r.Header.Revision
		for id := range w.floor {
			w.floor[id] = r.Header.Revision
		}
	case len(r.Events) == 0:
		w.bad = append(w.bad, fmt.Sprintf("a progress notification of watch %d that nobody waited for", r.WatchId))
	}
	for i, e := range r.Events {
		rev, seen := w.last[r.WatchId]
		if seen && e.Kv.ModRevision < rev {
			w.bad = append(w.bad, fmt.Sprintf("watch %d: event at %d after %d", r.WatchId, e.Kv.ModRevision, rev))
		}
		if _, more := w.open[r.WatchId]; seen && i == 0 && e.Kv.ModRevision == rev && !more {
			w.bad = append(w.bad, fmt.Sprintf("watch %d: the transaction at %d came in two responses", r.WatchId, rev))
		}
		if e.Kv.ModRevision <= w.floor[r.WatchId] {
			w.bad = append(w.bad, fmt.Sprintf("watch %d: event at %d after progress %d", r.WatchId, e.Kv.ModRevision, w.floor[r.WatchId]))
		}
		w.last[r.WatchId] = e.Kv.ModRevision
	}
	delete(w.open, r.WatchId)
	if r.Fragment {
		w.open[r.WatchId] = w.last[r.WatchId]
	}
	if n := len(r.Events); n > 0 && r.Header.Revision < r.Events[n-1].Kv.ModRevision {
		w.bad = append(w.bad, fmt.Sprintf("watch %d: header at %d with an event at %d", r.WatchId, r.Header.Revision,
			r.Events[n-1].Kv.ModRevision))
	}
	if r.Fragment && len(r.Events) > 1 && proto.Size(r) > 3<<20 {
		w.bad = append(w.bad, fmt.Sprintf("watch %d: a fragment of %d bytes", r.WatchId, proto.Size(r)))
	}
	w.events[r.WatchId] = append(w.events[r.WatchId], r.Events...)
}

// Waits until ok says so, which is asked with the lock held.
func (w *watchStream) wait(ok func() bool) bool {
	deadline := time.After(settle)
	for {
		w.mu.Lock()
		done, change := ok(), w.change
		w.mu.Unlock()
		if done {
			return true
		}
		select {
		case <-change:
		case <-deadline:
			return false
		}
	}
}

func (w *watchStream) nextCtrl() *pb.WatchResponse {
	var r *pb.WatchResponse
	w.wait(func() bool {
		if len(w.ctrl) == 0 {
			return false
		}
		r, w.ctrl = w.ctrl[0], w.ctrl[1:]
		return true
	})
	return r
}

// Everything that happened, as the reference tells it on a stream of its own.
type history struct {
	mu     sync.Mutex
	change chan struct{}
	events []*mvccpb.Event
	mod    map[string]int64
	newest int64
	err    error
}

func follow(s *side) (*history, error) {
	st, err := s.watch.Watch(context.Background())
	if err == nil {
		err = st.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
			Key: []byte{0}, RangeEnd: []byte{0}, StartRevision: s.head() + 1}}})
	}
	if err != nil {
		return nil, err
	}
	h := &history{change: make(chan struct{}), mod: map[string]int64{}, newest: s.head()}
	go func() {
		for h.err == nil {
			r, err := st.Recv()
			h.mu.Lock()
			h.err = err
			for _, e := range r.GetEvents() {
				h.events = append(h.events, e)
				h.newest = e.Kv.ModRevision
				h.mod[string(e.Kv.Key)] = e.Kv.ModRevision
				if e.Type == mvccpb.Event_DELETE {
					h.mod[string(e.Kv.Key)] = 0
				}
			}
			close(h.change)
			h.change = make(chan struct{})
			h.mu.Unlock()
		}
	}()
	return h, nil
}

func (d *diff) modOf(k []byte) int64 {
	d.history.mu.Lock()
	defer d.history.mu.Unlock()
	return d.history.mod[string(k)]
}

// Waits until the reference has told all up to rev.
func (h *history) catchUp(rev int64) {
	deadline := time.After(settle)
	for {
		h.mu.Lock()
		newest, change, err := h.newest, h.change, h.err
		h.mu.Unlock()
		if newest >= rev {
			return
		}
		select {
		case <-change:
		case <-deadline:
			fatal(fmt.Errorf("the reference told of %d, not of %d: %v", newest, rev, err))
		}
	}
}

type watch struct {
	req   *pb.WatchCreateRequest
	from  int64 // the reference's revision from which events are due
	index int   // of d.history.events: all before were compared
	since int64 // began in the past: the newest revision then; until it is seen to have caught up, a
	// compaction may end it at one server and not at the other
}

func (w *watch) wants(e *mvccpb.Event) bool {
	k, key, end := e.Kv.Key, w.req.Key, w.req.RangeEnd
	if len(key) == 0 {
		key = []byte{0}
	}
	switch {
	case len(end) == 0:
		if !bytes.Equal(k, key) {
			return false
		}
	case len(end) == 1 && end[0] == 0:
		if bytes.Compare(k, key) < 0 {
			return false
		}
	default:
		if bytes.Compare(k, key) < 0 || bytes.Compare(k, end) >= 0 {
			return false
		}
	}
	for _, f := range w.req.Filters {
		if f == pb.WatchCreateRequest_NOPUT && e.Type == mvccpb.Event_PUT ||
			f == pb.WatchCreateRequest_NODELETE && e.Type == mvccpb.Event_DELETE {
			return false
		}
	}
	return e.Kv.ModRevision >= w.from
}

func (d *diff) sendBoth(req *pb.WatchRequest) {
	for _, s := range []*side{d.a, d.b} {
		m := req
		if s == d.b {
			m = d.toB(req).(*pb.WatchRequest)
		}
		if err := s.stream.st.Send(m); err != nil {
			d.report("watch", req, "", s.name+": "+errText(err))
		}
	}
}

// The next control message of both; nil when they differ.
func (d *diff) bothCtrl(what string, req proto.Message) *pb.WatchResponse {
	ra, rb := d.a.stream.nextCtrl(), d.b.stream.nextCtrl()
	if ra == nil || rb == nil {
		d.report(what, req, text(ra), text(rb))
		return nil
	}
	if na, nb := fromA(ra), d.fromB(rb); !proto.Equal(na, nb) && !d.excuse(req, na, nb, "", "") {
		d.report(what, req, text(na), text(nb))
		return nil
	}
	return ra
}

func (d *diff) openWatch() {
	if len(d.watches) >= 60 {
		d.cancelWatch()
	}
	d.history.catchUp(d.a.head())
	c := d.genWatch()
	req := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: c}}
	d.counts["watch"]++
	if *verbose {
		fmt.Printf("%d watch {%s}\n", d.calls, text(req))
	}
	progress := c.ProgressNotify
	d.sendBoth(req)
	r := d.bothCtrl("watch", req)
	if r == nil || r.Canceled {
		return
	}
	d.opened++
	c.ProgressNotify = progress
	w := &watch{req: c, from: c.StartRevision}
	if w.from == 0 {
		w.from = d.a.head() + 1
	}
	if w.from < d.compacted { // told in a message of its own; the id stays taken until it is cancelled
		d.bothCtrl("watch compacted", req)
		cancel := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{
			CancelRequest: &pb.WatchCancelRequest{WatchId: r.WatchId}}}
		d.sendBoth(cancel)
		d.bothCtrl("watch cancel", cancel)
		return
	}
	if w.from <= d.a.head() {
		w.since = d.a.head()
	}
	d.watches[r.WatchId] = w
	d.checkEvents(r.WatchId, w)
}

func (d *diff) anyWatch() (int64, *watch) {
	ids := make([]int64, 0, len(d.watches))
	for id := range d.watches {
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return 0, nil
	}
	low := ids[0]
	for _, id := range ids { // maps have no order: choose by number, so that a seed is a seed
		low = min(low, id)
	}
	k := low + int64(d.rng.Intn(40))
	best := low
	for _, id := range ids {
		if id <= k && id > best {
			best = id
		}
	}
	return best, d.watches[best]
}

// Ends the watches that a compaction to rev may surprise.
func (d *diff) cancelLate(rev int64) {
	for id, w := range d.watches {
		if w.since > 0 && w.from < rev {
			d.cancel(id, w)
		}
	}
}

func (d *diff) cancelWatch() {
	id, w := d.anyWatch()
	if w == nil || d.oneIn(20) {
		id = 100000 // nobody's: no answer
	}
	d.cancel(id, w)
}

func (d *diff) cancel(id int64, w *watch) {
	if w != nil {
		d.history.catchUp(d.a.head())
		d.checkEvents(id, w)
	}
	d.counts["watch cancel"]++
	req := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: id}}}
	d.sendBoth(req)
	if w != nil && id != 100000 {
		d.bothCtrl("watch cancel", req)
		delete(d.watches, id)
	}
}

// Both must have sent to watch id exactly what happened in its range since it was last looked at.
func (d *diff) checkEvents(id int64, w *watch) {
	if id == 100000 {
		return
	}
	want := 0
	d.history.mu.Lock()
	n := len(d.history.events)
	for _, e := range d.history.events[w.index:n] {
		if w.wants(e) {
			want++
		}
	}
	d.history.mu.Unlock()
	w.index = n
	got := [2][]*mvccpb.Event{}
	for i, s := range []*side{d.a, d.b} {
		st := s.stream
		st.wait(func() bool { return len(st.events[id]) >= want })
		st.mu.Lock()
		got[i] = st.events[id]
		st.events[id] = nil
		st.mu.Unlock()
	}
	what := fmt.Sprintf("events of watch %d", id)
	for i := 0; i < len(got[0]) && i < len(got[1]); i++ {
		ea, eb := fromA(got[0][i]), d.fromB(got[1][i])
		if !proto.Equal(ea, eb) && !d.excuse(w.req, ea, eb, "", "") {
			d.report(fmt.Sprintf("%s, number %d", what, i), w.req, text(ea), text(eb))
			return
		}
		d.events++
		if got[0][i].Kv.ModRevision > w.since {
			w.since = 0
		}
	}
	if len(got[0]) != want || len(got[1]) != want {
		d.report(what, w.req, fmt.Sprintf("%d events, %d happened", len(got[0]), want), fmt.Sprintf("%d events", len(got[1])))
	}
}

// Looks at all watches.
func (d *diff) barrier() {
	d.history.catchUp(d.a.head())
	for id, w := range d.watches {
		d.checkEvents(id, w)
	}
	for _, s := range []*side{d.a, d.b} {
		s.stream.mu.Lock()
		for _, text := range s.stream.bad {
			d.report("the watch stream of "+s.name, nil, "", text)
		}
		s.stream.bad = nil
		s.stream.mu.Unlock()
	}
}

// A progress request for all watches is answered with the newest revision once all are synced.
func (d *diff) askProgress() {
	d.barrier()
	d.counts["watch progress"]++
	for _, w := range d.watches {
		if w.from > d.a.head() {
			return // etcd does not answer before that revision is there
		}
	}
	if len(d.watches) == 0 {
		return
	}
	req := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}
	for _, s := range []*side{d.a, d.b} {
		st, got := s.stream, false
		for try := 0; try < 50 && !got; try++ { // etcd says nothing while a watch catches up
			if err := st.st.Send(req); err != nil {
				break
			}
			deadline := time.After(200 * time.Millisecond)
			for waiting := true; waiting && !got; {
				st.mu.Lock()
				change := st.change
				got = st.pgress >= s.head()
				st.mu.Unlock()
				select {
				case <-change:
				case <-deadline:
					waiting = false
				}
			}
		}
		st.mu.Lock()
		progress := st.pgress
		st.mu.Unlock()
		if progress != s.head() {
			d.report("watch progress", req, fmt.Sprintf("newest revision of %s: %d", s.name, s.head()), fmt.Sprint(progress))
			return
		}
	}
	for _, w := range d.watches {
		w.since = 0
	}
}
