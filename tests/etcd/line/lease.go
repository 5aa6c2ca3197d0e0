// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

func grantRequest(id, ttl int64) *pb.LeaseGrantRequest {
	return &pb.LeaseGrantRequest{ID: id, TTL: ttl}
}

// The lease in the key NAME/LEASE.
func leaseOf(key string) (id int64) {
	if n, _ := fmt.Sscanf(key[strings.LastIndexByte(key, '/')+1:], "%x", &id); n != 1 {
		panic("no lease in " + key)
	}
	return id
}
