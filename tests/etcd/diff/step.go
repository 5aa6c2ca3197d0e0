// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"math/rand"
	"os"
	"regexp"
	"sort"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
)

type diff struct {
	rng             *rand.Rand
	a, b            *side
	leases          map[int64]int64 // lease ids that the servers chose: b's to a's
	chosenLease     int64           // the newest of them, as a calls it
	watches         map[int64]*watch
	history         *history
	compacted       int64 // in the reference's revisions
	calls, bad      int
	opened, events  int
	counts, excused map[string]int
}

func sum(m map[string]int) (n int) {
	for _, v := range m {
		n += v
	}
	return n
}

func sorted(m map[string]int) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

var long = regexp.MustCompile(`([xyzk]{20})[xyzk]+`)

func text(m proto.Message) string {
	if m == nil || !m.ProtoReflect().IsValid() {
		return "nothing"
	}
	s := prototext.MarshalOptions{}.Format(m)
	return strings.TrimSpace(long.ReplaceAllString(s, "$1..."))
}

func (d *diff) report(what string, req proto.Message, a, b string) {
	d.bad++
	fmt.Printf("difference in call %d, %s {%s}\n  a: %s\n  b: %s\n", d.calls, what, text(req), a, b)
}

type caller func(s *side, ctx context.Context, req proto.Message) (proto.Message, error)

// Sends req to both servers and compares what comes back; true when both succeeded.
func (d *diff) both(what string, req proto.Message, call caller, tweak func(a, b proto.Message)) (proto.Message, bool) {
	if *verbose {
		fmt.Printf("%d %s {%s}\n", d.calls, what, text(req))
	}
	reqB := d.toB(req)
	ctx, cancel := withTimeout()
	defer cancel()
	ra, errA := call(d.a, ctx, proto.Clone(req))
	rb, errB := call(d.b, ctx, reqB)
	d.counts[what]++
	if errA != nil || errB != nil {
		if ta, tb := errText(errA), errText(errB); ta != tb && !d.excuse(req, ra, rb, ta, tb) {
			d.report(what, req, ta, tb)
		}
		return nil, false
	}
	same := d.note(ra, rb)
	na, nb := fromA(ra), d.fromB(rb)
	canonical(req, na)
	canonical(req, nb)
	if tweak != nil {
		tweak(na, nb)
	}
	if (!same || !proto.Equal(na, nb)) && !d.excuse(req, na, nb, "", "") {
		d.report(what, req, text(na), text(nb))
	}
	return ra, true
}

func (d *diff) begin() error {
	for _, s := range []*side{d.a, d.b} {
		ctx, cancel := withTimeout()
		defer cancel()
		r, err := s.kv.Range(ctx, &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, Limit: 1})
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		if r.Count > 0 {
			return fmt.Errorf("%s is not empty", s.name)
		}
		s.revs = []int64{r.Header.Revision}
		if s.stream, err = openStream(s); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	var err error
	d.history, err = follow(d.a)
	return err
}

func (d *diff) step() {
	switch r := d.rng.Intn(1000); {
	case r < 250:
		d.both("put", d.genPut(), func(s *side, ctx context.Context, m proto.Message) (proto.Message, error) {
			return s.kv.Put(ctx, m.(*pb.PutRequest))
		}, nil)
	case r < 450:
		d.both("range", d.genRange(), func(s *side, ctx context.Context, m proto.Message) (proto.Message, error) {
			return s.kv.Range(ctx, m.(*pb.RangeRequest))
		}, nil)
	case r < 540:
		d.both("delete", d.genDelete(), func(s *side, ctx context.Context, m proto.Message) (proto.Message, error) {
			return s.kv.DeleteRange(ctx, m.(*pb.DeleteRangeRequest))
		}, nil)
	case r < 840:
		d.both("txn", d.genTxn(0), func(s *side, ctx context.Context, m proto.Message) (proto.Message, error) {
			return s.kv.Txn(ctx, m.(*pb.TxnRequest))
		}, nil)
	case r < 900:
		d.leaseCall()
	case r < 903:
		d.tooBig()
	case r < 907:
		d.compact()
	case r < 950:
		d.openWatch()
	case r < 975:
		d.cancelWatch()
	case r < 980:
		d.askProgress()
	case r < 990:
		d.barrier()
	default:
		d.both("range all", &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}, func(s *side, ctx context.Context, m proto.Message) (proto.Message, error) {
			return s.kv.Range(ctx, m.(*pb.RangeRequest))
		}, nil)
	}
}

func (d *diff) compact() {
	d.barrier() // a watch that lags may be cancelled by one server and not by the other
	req := &pb.CompactionRequest{Revision: d.recent(300), Physical: d.oneIn(3)}
	if d.oneIn(6) {
		req.Revision = max(d.rev(), 1) // see allowed.go
	}
	d.cancelLate(req.Revision)
	_, ok := d.both("compact", req, func(s *side, ctx context.Context, m proto.Message) (proto.Message, error) {
		return s.kv.Compact(ctx, m.(*pb.CompactionRequest))
	}, nil)
	if ok {
		d.compacted = req.Revision
	}
}

// Requests over etcd's limits.
func (d *diff) tooBig() {
	if d.oneIn(2) {
		req := &pb.PutRequest{Key: d.key(), Value: []byte(strings.Repeat("z", 1<<20+d.rng.Intn(1<<20)))}
		d.both("big put", req, func(s *side, ctx context.Context, m proto.Message) (proto.Message, error) {
			return s.kv.Put(ctx, m.(*pb.PutRequest))
		}, nil)
		return
	}
	req := &pb.TxnRequest{}
	for i := 120 + d.rng.Intn(16); i > 0; i-- {
		req.Success = append(req.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{
			RequestPut: &pb.PutRequest{Key: []byte(fmt.Sprintf("big/%d", i)), Value: []byte("b")}}})
	}
	d.both("big txn", req, func(s *side, ctx context.Context, m proto.Message) (proto.Message, error) {
		return s.kv.Txn(ctx, m.(*pb.TxnRequest))
	}, nil)
}

func (d *diff) leaseCall() {
	switch r := d.rng.Intn(20); {
	case r < 7:
		ttl := []int64{500, 3600, 100000}[d.rng.Intn(3)]
		req := &pb.LeaseGrantRequest{ID: 1000 + int64(d.rng.Intn(leaseIDs)), TTL: ttl}
		if d.oneIn(10) {
			req.TTL = []int64{0, -1, 9000000000, 9000000001}[d.rng.Intn(4)]
		}
		_, ok := d.both("lease grant", req, grant, nil)
		if ok && req.TTL < 500 { // the shortest there is: it would run out at some moment
			d.both("lease revoke", &pb.LeaseRevokeRequest{ID: req.ID}, revoke, nil)
		}
	case r < 8:
		var ids [2]int64
		ra, ok := d.both("lease grant", &pb.LeaseGrantRequest{TTL: 1000}, grant, func(a, b proto.Message) {
			ga, gb := a.(*pb.LeaseGrantResponse), b.(*pb.LeaseGrantResponse)
			ids = [2]int64{ga.ID, gb.ID}
			if gb.ID > 0 {
				gb.ID = ga.ID
			}
		})
		if ok && ra != nil {
			d.leases[ids[1]], d.chosenLease = ids[0], ids[0]
		}
	case r < 12:
		req := &pb.LeaseRevokeRequest{ID: d.leaseID()}
		d.both("lease revoke", req, revoke, nil)
	case r < 16:
		req := &pb.LeaseTimeToLiveRequest{ID: d.leaseID(), Keys: d.oneIn(2)}
		d.both("lease ttl", req, func(s *side, ctx context.Context, m proto.Message) (proto.Message, error) {
			return s.lease.LeaseTimeToLive(ctx, m.(*pb.LeaseTimeToLiveRequest))
		}, func(a, b proto.Message) {
			ta, tb := a.(*pb.LeaseTimeToLiveResponse), b.(*pb.LeaseTimeToLiveResponse)
			if d := ta.TTL - tb.TTL; d >= -2 && d <= 2 {
				tb.TTL = ta.TTL
			}
			for _, t := range []*pb.LeaseTimeToLiveResponse{ta, tb} { // etcd walks a map
				sort.Slice(t.Keys, func(i, j int) bool { return string(t.Keys[i]) < string(t.Keys[j]) })
			}
		})
	case r < 18:
		d.both("lease keepalive", &pb.LeaseKeepAliveRequest{ID: d.leaseID()}, func(s *side, ctx context.Context, m proto.Message) (proto.Message, error) {
			st, err := s.lease.LeaseKeepAlive(ctx)
			if err != nil {
				return nil, err
			}
			if err := st.Send(m.(*pb.LeaseKeepAliveRequest)); err != nil {
				return nil, err
			}
			r, err := st.Recv()
			st.CloseSend()
			return r, err
		}, nil)
	default:
		d.both("lease list", &pb.LeaseLeasesRequest{}, func(s *side, ctx context.Context, m proto.Message) (proto.Message, error) {
			return s.lease.LeaseLeases(ctx, m.(*pb.LeaseLeasesRequest))
		}, func(a, b proto.Message) { // etcd sorts by what is left
			for _, l := range []*pb.LeaseLeasesResponse{a.(*pb.LeaseLeasesResponse), b.(*pb.LeaseLeasesResponse)} {
				sort.Slice(l.Leases, func(i, j int) bool { return l.Leases[i].ID < l.Leases[j].ID })
			}
		})
	}
}

func grant(s *side, ctx context.Context, m proto.Message) (proto.Message, error) {
	return s.lease.LeaseGrant(ctx, m.(*pb.LeaseGrantRequest))
}

func revoke(s *side, ctx context.Context, m proto.Message) (proto.Message, error) {
	return s.lease.LeaseRevoke(ctx, m.(*pb.LeaseRevokeRequest))
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, "diff:", err)
	os.Exit(2)
}
