// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

const leaseIDs = 12

// A key of a small universe, so that calls meet: directories as Kubernetes has, bare names, and
// names that are easy to get wrong.
func (d *diff) key() []byte {
	switch r := d.rng.Intn(20); {
	case r < 9:
		return []byte(fmt.Sprintf("/registry/%s/ns-%d/x%d", []string{"pods", "leases", "events"}[d.rng.Intn(3)],
			d.rng.Intn(3), d.rng.Intn(6)))
	case r < 12:
		return []byte(fmt.Sprintf("/registry/nodes/n%d", d.rng.Intn(5)))
	case r < 17:
		return []byte(string(rune('a' + d.rng.Intn(12))))
	default:
		odd := []string{"\x00", "\x00\x00", "a\x00", "a\x00b", "\xff", "\xff\xff", "a\xff", "A", "ä", " a", "a ", "//", "/",
			"/registry", "/registry/", "/registry/pods", "/registry/pods/", strings.Repeat("k", 700), "%41", "a/b/c/d/e/f"}
		return []byte(odd[d.rng.Intn(len(odd))])
	}
}

func prefixEnd(p []byte) []byte {
	end := append([]byte(nil), p...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < 0xff {
			end[i]++
			return end[:i+1]
		}
	}
	return []byte{0}
}

func (d *diff) rangeOf() (key, end []byte) {
	switch r := d.rng.Intn(20); {
	case r < 7:
		return d.key(), nil
	case r < 12:
		k := d.key()
		if i := d.rng.Intn(len(k)) + 1; d.rng.Intn(2) == 0 {
			k = k[:i]
		}
		return k, prefixEnd(k)
	case r < 14:
		return d.key(), []byte{0}
	case r < 15:
		return []byte{0}, []byte{0}
	case r < 16:
		return nil, nil
	default:
		return d.key(), d.key() // half of them empty
	}
}

func (d *diff) value() []byte {
	switch r := d.rng.Intn(200); {
	case r < 20:
		return nil
	case r < 190:
		return []byte(fmt.Sprintf("v%d", d.rng.Intn(10)))
	case r < 199:
		return []byte(strings.Repeat("x", d.rng.Intn(20000)))
	default:
		return []byte(strings.Repeat("y", d.rng.Intn(400000)))
	}
}

// Of a filter: no revision of the future, as a transaction that reads what it wrote has other ones
// of its own at kinglet.
func (d *diff) filterRev() int64 { return min(d.rev(), d.a.head()) }

// A revision of the reference: none, one of the past, the newest, one of the future, or nonsense.
func (d *diff) rev() int64 {
	switch r := d.rng.Intn(20); {
	case r < 3:
		return 0
	case r < 14:
		return d.recent(40)
	case r < 16:
		return d.a.head()
	case r < 17:
		return d.a.head() + 1 + int64(d.rng.Intn(5))
	case r < 18:
		return -int64(d.rng.Intn(3))
	default:
		return d.a.revs[d.rng.Intn(len(d.a.revs))]
	}
}

func (d *diff) recent(back int) int64 {
	i := len(d.a.revs) - 1 - d.rng.Intn(back)
	return d.a.revs[max(i, 0)]
}

func (d *diff) leaseID() int64 {
	if d.rng.Intn(8) == 0 {
		return d.chosenLease
	}
	return 1000 + int64(d.rng.Intn(leaseIDs))
}

func (d *diff) oneIn(n int) bool { return d.rng.Intn(n) == 0 }

func (d *diff) genPut() *pb.PutRequest {
	r := &pb.PutRequest{Key: d.key(), Value: d.value(), PrevKv: d.oneIn(3)}
	if d.oneIn(6) {
		r.Lease = d.leaseID()
	}
	if d.oneIn(20) {
		r.IgnoreValue = true
		if !d.oneIn(4) {
			r.Value = nil
		}
	}
	if d.oneIn(20) {
		r.IgnoreLease = true
		if !d.oneIn(4) {
			r.Lease = 0
		}
	}
	if d.oneIn(100) {
		r.Key = nil
	}
	return r
}

func (d *diff) genRange() *pb.RangeRequest {
	r := &pb.RangeRequest{}
	r.Key, r.RangeEnd = d.rangeOf()
	if d.oneIn(3) {
		r.Limit = int64(d.rng.Intn(8)) - 1
	}
	if d.oneIn(3) {
		r.Revision = d.rev()
	}
	if d.oneIn(4) {
		r.SortOrder = pb.RangeRequest_SortOrder(d.rng.Intn(3))
		r.SortTarget = pb.RangeRequest_SortTarget(d.rng.Intn(5))
	}
	if d.oneIn(100) {
		r.SortOrder = pb.RangeRequest_SortOrder(d.rng.Intn(5))
		r.SortTarget = pb.RangeRequest_SortTarget(d.rng.Intn(7))
	}
	r.KeysOnly, r.CountOnly, r.Serializable = d.oneIn(8), d.oneIn(10), d.oneIn(5)
	if d.oneIn(10) {
		r.MinModRevision = d.filterRev()
	}
	if d.oneIn(10) {
		r.MaxModRevision = d.filterRev()
	}
	if d.oneIn(10) {
		r.MinCreateRevision = d.filterRev()
	}
	if d.oneIn(10) {
		r.MaxCreateRevision = d.filterRev()
	}
	return r
}

func (d *diff) genDelete() *pb.DeleteRangeRequest {
	r := &pb.DeleteRangeRequest{PrevKv: d.oneIn(2)}
	if d.oneIn(4) {
		r.Key, r.RangeEnd = d.rangeOf()
	} else {
		r.Key = d.key()
	}
	return r
}

func (d *diff) genCompare() *pb.Compare {
	c := &pb.Compare{Result: pb.Compare_CompareResult(d.rng.Intn(4)), Target: pb.Compare_CompareTarget(d.rng.Intn(5))}
	if d.oneIn(3) {
		c.Key, c.RangeEnd = d.rangeOf()
	} else {
		c.Key = d.key()
	}
	switch c.Target {
	case pb.Compare_VERSION:
		c.TargetUnion = &pb.Compare_Version{Version: int64(d.rng.Intn(4))}
	case pb.Compare_CREATE:
		c.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: max(d.rev(), 0)}
	case pb.Compare_MOD:
		c.TargetUnion = &pb.Compare_ModRevision{ModRevision: max(d.rev(), 0)}
	case pb.Compare_VALUE:
		c.TargetUnion = &pb.Compare_Value{Value: d.value()}
	default:
		c.TargetUnion = &pb.Compare_Lease{Lease: d.leaseID() * int64(d.rng.Intn(2))}
	}
	if d.oneIn(100) {
		c.TargetUnion = nil
	}
	return c
}

func (d *diff) genOps(depth int) []*pb.RequestOp {
	var ops []*pb.RequestOp
	for i := d.rng.Intn(5); i > 0; i-- {
		op := &pb.RequestOp{}
		switch r := d.rng.Intn(12); {
		case r < 5:
			put := d.genPut()
			// etcd 3.7 panics on these when the key goes in the same transaction.
			put.IgnoreValue, put.IgnoreLease = false, false
			op.Request = &pb.RequestOp_RequestPut{RequestPut: put}
		case r < 8:
			op.Request = &pb.RequestOp_RequestRange{RequestRange: d.genRange()}
		case r < 11:
			del := d.genDelete()
			if len(del.RangeEnd) == 1 && del.RangeEnd[0] == 0 { // see allowed.go
				del.RangeEnd = []byte("\xff\xff\xff")
			}
			op.Request = &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: del}
		case depth < 2:
			op.Request = &pb.RequestOp_RequestTxn{RequestTxn: d.genTxn(depth + 1)}
		default:
			continue
		}
		if !d.oneIn(300) {
			ops = append(ops, op)
		} else {
			ops = append(ops, &pb.RequestOp{})
		}
	}
	return ops
}

func (d *diff) genTxn(depth int) *pb.TxnRequest {
	r := &pb.TxnRequest{}
	if d.oneIn(3) { // what Kubernetes sends
		k := d.key()
		r.Compare = []*pb.Compare{{Key: k, Target: pb.Compare_MOD, Result: pb.Compare_EQUAL,
			TargetUnion: &pb.Compare_ModRevision{ModRevision: d.modOf(k)}}}
		r.Success = []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: k, Value: d.value()}}}}
		if d.oneIn(4) {
			r.Success = []*pb.RequestOp{{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: k}}}}
		}
		r.Failure = []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: k}}}}
		return r
	}
	for i := d.rng.Intn(3); i > 0; i-- {
		r.Compare = append(r.Compare, d.genCompare())
	}
	r.Success, r.Failure = d.genOps(depth), d.genOps(depth)
	return r
}

func (d *diff) genWatch() *pb.WatchCreateRequest {
	r := &pb.WatchCreateRequest{PrevKv: d.oneIn(2), Fragment: d.oneIn(4), ProgressNotify: d.oneIn(4)}
	r.Key, r.RangeEnd = d.rangeOf()
	switch d.rng.Intn(6) {
	case 0, 1:
	case 2:
		r.StartRevision = min(d.rev(), d.a.head()+1)
	case 3:
		// Not further: how many revisions the next transactions take differs.
		r.StartRevision = d.a.head() + 1
	default:
		r.StartRevision = d.recent(200)
	}
	if d.oneIn(4) {
		r.Filters = append(r.Filters, pb.WatchCreateRequest_FilterType(d.rng.Intn(2)))
	}
	if d.oneIn(20) {
		r.Filters = append(r.Filters, pb.WatchCreateRequest_FilterType(d.rng.Intn(3)))
	}
	if d.oneIn(5) {
		r.WatchId = int64(d.rng.Intn(30))
	}
	return r
}
