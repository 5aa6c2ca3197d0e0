// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// HashKV: after the same calls, each of which writes one key, both servers have the same revisions,
// and at each revision the same hash. What etcd remembers of a compaction's own revision, the hash
// from before it, is not asked for.
func (d *diff) hashes(n int) {
	compacted, remembered := int64(0), map[int64]bool{}
	lease := &pb.LeaseGrantRequest{ID: hashLease, TTL: 3600}
	d.each(func(s *side, ctx context.Context) error { _, err := s.lease.LeaseGrant(ctx, lease); return err })
	for d.calls = 0; d.calls < n && d.bad < *maxDiff; d.calls++ {
		head := d.write()
		switch r := d.rng.Intn(100); {
		case r < 2 && head > compacted+1:
			compacted += 1 + d.rng.Int63n(head-compacted)
			remembered[compacted] = true
			d.each(func(s *side, ctx context.Context) error {
				_, err := s.kv.Compact(ctx, &pb.CompactionRequest{Revision: compacted, Physical: true})
				return err
			})
			d.compareHash(0)
		case r < 12:
			if rev := compacted + d.rng.Int63n(head-compacted+1); !remembered[rev] {
				d.compareHash(rev)
			}
		case r < 16:
			d.compareHash(0)
		case r < 17:
			d.compareHash(head + 1)
			if !remembered[compacted-1] {
				d.compareHash(compacted - 1)
			}
		}
	}
	d.deleteAll()
	d.compareHash(0)
	gone := &pb.LeaseRevokeRequest{ID: hashLease}
	d.each(func(s *side, ctx context.Context) error { _, err := s.lease.LeaseRevoke(ctx, gone); return err })
}

const (
	hashKeys  = 60
	hashLease = 77
)

// One after the other: a deletion of several is a transaction of several writes.
func (d *diff) deleteAll() {
	for i := range hashKeys {
		d.each(func(s *side, ctx context.Context) error {
			_, err := s.kv.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: fmt.Appendf(nil, "h/%d", i)})
			return err
		})
	}
}

// Calls both; the same must come of it.
func (d *diff) each(call func(s *side, ctx context.Context) error) {
	for _, s := range []*side{d.a, d.b} {
		ctx, cancel := withTimeout()
		err := call(s, ctx)
		cancel()
		if err != nil {
			fmt.Fprintf(os.Stderr, "diff: %s: %v\n", s.name, err)
			os.Exit(2)
		}
	}
}

// One put or one deletion of a key out of few; sometimes all of them go, one after the other.
func (d *diff) write() (head int64) {
	put := &pb.PutRequest{Key: fmt.Appendf(nil, "h/%d", d.rng.Intn(hashKeys)), Value: d.value()}
	switch d.rng.Intn(10) {
	case 0:
		put.Lease = hashLease
	case 1, 2:
		d.each(func(s *side, ctx context.Context) error {
			r, err := s.kv.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: put.Key})
			head = r.GetHeader().GetRevision()
			return err
		})
		return head
	case 3:
		if d.oneIn(20) { // and a compaction may meet a revision without any key
			d.deleteAll()
		}
	}
	d.each(func(s *side, ctx context.Context) error {
		r, err := s.kv.Put(ctx, put)
		head = r.GetHeader().GetRevision()
		return err
	})
	return head
}

func (d *diff) compareHash(rev int64) {
	var told [2]string
	for i, s := range []*side{d.a, d.b} {
		ctx, cancel := withTimeout()
		r, err := s.maintenance.HashKV(ctx, &pb.HashKVRequest{Revision: rev})
		cancel()
		told[i] = fmt.Sprintf("%s: %08x at %d of %d, compacted %d", errText(err), r.GetHash(), r.GetHashRevision(),
			r.GetHeader().GetRevision(), r.GetCompactRevision())
	}
	d.counts["hash"]++
	if told[0] != told[1] {
		d.report("hash", &pb.HashKVRequest{Revision: rev}, told[0], told[1])
	}
}
